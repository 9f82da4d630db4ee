"""Many agents with nothing to do, in one process: they join, answer pings, and say a heartbeat every 15 s.

    idle_agents.py PORT COUNT

Says `joined` once the last of them has.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from handshake import answer, capabilities, frames_in, heartbeat, upgrade

HEARTBEAT_S = 15.0
JOINING_AT_A_TIME = 32
PING, PONG = 9, b"\x8a"


class Agent(asyncio.Protocol):
    """One of them."""

    def __init__(self, port: int, phase: float) -> None:
        self._port = port
        self._phase = phase
        self._buffer = bytearray()
        self._is_upgraded = False
        self.joined = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(upgrade(self._port))

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"an idle agent lost its connection: {exc}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_upgraded and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            del self._buffer[: end + 4]
            self._is_upgraded = True
        for opcode, payload in frames_in(self._buffer) if self._is_upgraded else ():
            if opcode == PING:
                self._transport.write(PONG + bytes([0x80 | len(payload)]) + bytes(4) + payload)
            elif opcode == 1:
                self._take(json.loads(payload))

    def _take(self, frame: dict[str, object]) -> None:
        match frame["type"]:
            case "auth_challenge":
                self._transport.write(answer(frame, Ed25519PrivateKey.generate()))
            case "auth_ok":
                self._transport.write(capabilities())
            case "capabilities_ok":
                self.joined.set_result(None)
                asyncio.get_running_loop().call_later(HEARTBEAT_S * self._phase, self._beat)

    def _beat(self) -> None:
        self._transport.write(heartbeat())
        asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)


async def main(port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(JOINING_AT_A_TIME)

    async def join(number: int) -> None:
        async with gate:
            _, agent = await loop.create_connection(lambda: Agent(port, number / count), "127.0.0.1", port)
            await agent.joined

    await asyncio.gather(*(join(number) for number in range(count)))
    print(json.dumps({"event": "joined", "count": count}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
