"""`coordinator.c` for machines without a C compiler: it saturates before a fast agent does.

coordinator.py CONTROL_PORT
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import statistics
import struct
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop
from engine import EVENT_BYTES, FINISH_ALL, MODEL, STAMP_AT, STAMP_BYTES
from websockets.speedups import apply_mask

HANDSHAKE_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
WINDOW_BYTES = 256 * 1024
ACK_EVERY_S = 0.05
BEGINNING_S = 5.0
CHUNK_HEAD = struct.Struct("!BII")


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Load:
    """What was asked for, and what was counted inside the measured window."""

    def __init__(self, line: str) -> None:
        self.mode, *numbers = line.split()
        self.streams, self.amount, warm_up_ms, measured_ms = map(int, numbers)
        self.warm_up_s, self.seconds = warm_up_ms / 1000, measured_ms / 1000
        self.measuring = False
        self.finishing = False
        self.unbegun = self.frames = self.payload_bytes = self.jobs = self.errors = 0
        self.latencies_us: list[float] = []

    def result(self, elapsed_s: float) -> dict[str, object]:
        ordered = sorted(self.latencies_us)
        return {
            "elapsed_s": elapsed_s,
            "frames": self.frames,
            "unbegun": self.unbegun,
            "latencies": len(ordered),
            "bytes": self.payload_bytes,
            "jobs": self.jobs,
            "errors": self.errors,
            "p50_us": statistics.median(ordered) if ordered else 0,
            "p99_us": ordered[int(len(ordered) * 0.99)] if ordered else 0,
        }


@dataclass(slots=True)
class Inflow:
    """What has come of one job, and what of it was acknowledged."""

    number: int
    seq: int = -1
    acked_seq: int = -1
    unacked_bytes: int = 0

    def take(self, seq: int, size: int) -> None:
        assert seq == self.seq + 1, f"chunk {seq} follows chunk {self.seq}"
        self.seq = seq
        self.unacked_bytes += size
        assert self.unacked_bytes <= WINDOW_BYTES, "more than the window"


class Session(asyncio.Protocol):
    """The agent's connection: a WebSocket server, byte by byte."""

    def __init__(self, control: asyncio.Transport, ready: asyncio.Event) -> None:
        self._control = control
        self._ready = ready
        self._buffer = b""
        self._upgraded = False
        self._load: Load | None = None
        self._open: dict[int, Inflow] = {}
        self._next_id = 0
        self._due: list[int] = []
        self._silent: set[int] = set()
        self._all_began = asyncio.Event()
        self.idle = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            self._shake_hands()
        if self._upgraded:
            self._read_frames()
        if self._due:
            self._control.write(struct.pack(f"<{len(self._due)}I", *self._due))
            self._due.clear()

    def _shake_hands(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        accept = base64.b64encode(
            hashlib.sha1(headers[b"sec-websocket-key"] + HANDSHAKE_SALT, usedforsecurity=False).digest()
        )
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        if b"provider-agent.v3" in headers.get(b"sec-websocket-protocol", b""):
            answer += b"Sec-WebSocket-Protocol: provider-agent.v3\r\n"
        self._transport.write(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self._buffer, self._upgraded = rest, True
        nonce = base64.b64encode(os.urandom(32)).decode()
        self._send({"type": "auth_challenge", "nonce": nonce, "protocol": 3, "schemes": ["ed25519-bound"]})

    def _send(self, frame: dict[str, object]) -> None:
        self._send_raw(TEXT, json.dumps(frame, separators=(",", ":")).encode())

    def _send_raw(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = struct.pack("!B", size) if size < 126 else struct.pack("!BH", 126, size)
        self._transport.write(bytes([0x80 | opcode]) + length + payload)

    def _read_frames(self) -> None:
        buffer, at, end = self._buffer, 0, len(self._buffer)
        while end - at >= 6:
            size, head = buffer[at + 1] & 0x7F, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4]), 4
            elif size == 127:
                if end - at < 14:
                    break
                size, head = int.from_bytes(buffer[at + 2 : at + 10]), 10
            start = at + head + 4
            if end - start < size:
                break
            payload = apply_mask(buffer[start : start + size], buffer[start - 4 : start])
            opcode = buffer[at] & 0x0F
            at = start + size
            self._take(opcode, payload)
        self._buffer = buffer[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            _, number, seq = CHUNK_HEAD.unpack_from(payload)
            self._take_chunk(number, seq, payload[CHUNK_HEAD.size :])
        elif opcode == TEXT:
            kind = payload[payload.index(b":") + 1 : 60]
            if b"job_chunk" in kind:
                frame = json.loads(payload)
                self._take_chunk(int(frame["job_id"][1:]), frame["seq"], base64.b64decode(frame["data"]))
            elif b"job_started" not in kind and b"heartbeat" not in kind:
                self._take_other(json.loads(payload))
        elif opcode == PING:
            self._send_raw(PONG, payload)
        elif opcode == CLOSE:
            self._transport.close()

    def _take_chunk(self, number: int, seq: int, data: bytes) -> None:
        load, inflow = self._load, self._open[number]
        if load is None:
            return
        inflow.take(seq, len(data))
        if inflow.unacked_bytes >= WINDOW_BYTES // 2:
            self._ack(inflow)
        if self._silent:
            self._note_beginning(number)
        if load.mode == "lockstep" and not load.finishing:
            self._due.append(number)
        if load.measuring:
            load.frames += 1
            load.payload_bytes += len(data)
            if load.mode == "paced":
                load.latencies_us.append(age_us(data))

    def _ack(self, inflow: "Inflow", seq: int | None = None) -> None:
        seq = inflow.seq if seq is None else seq
        self._send({"type": "job_ack", "job_id": job_id_of(inflow.number), "seq": seq})
        inflow.acked_seq, inflow.unacked_bytes = seq, 0

    async def ack_all(self) -> None:
        """Every 50 ms: what has come and was not acknowledged."""
        while True:
            await asyncio.sleep(ACK_EVERY_S)
            for inflow in self._open.values():
                if inflow.seq > inflow.acked_seq:
                    self._ack(inflow)

    def _note_beginning(self, number: int) -> None:
        self._silent.discard(number)
        is_flood = self._load is not None and self._load.mode in ("blast", "bulk")
        if is_flood or not self._silent:  # a flood may drown the others' beginnings
            self._all_began.set()
        if self._load is not None and self._load.finishing:  # it began after the others were told
            self._control.write(struct.pack("<I", FINISH_ALL))

    def _take_other(self, frame: dict[str, object]) -> None:
        kind = frame["type"]
        if kind == "auth_response":
            self._send(
                {
                    "type": "auth_ok",
                    "provider_id": "bench",
                    "session_id": "bench",
                    "protocol": 3,
                    "heartbeat_interval_ms": 15000,
                    "resume_window_ms": 60000,
                    "binary": True,
                }
            )
        elif kind == "capabilities":
            self._send({"type": "capabilities_ok", "revision": frame.get("revision", 0)})
            if any(model["model_id"] == MODEL for model in frame["models"]):  # type: ignore[attr-defined]
                self._ready.set()
        elif kind in ("job_done", "job_error"):
            self._take_outcome(frame, failed=kind == "job_error")

    def _take_outcome(self, frame: dict[str, object], *, failed: bool) -> None:
        load = self._load
        inflow = self._open.pop(int(str(frame["job_id"])[1:]))
        self._ack(inflow, int(str(frame.get("seq", inflow.seq + 1))))
        if load is None:
            return
        load.errors += failed
        if failed:
            print(frame, file=sys.stderr)
        load.jobs += load.measuring
        if load.mode == "once" and not load.finishing:
            self._dispatch(load)
        if not self._open:
            self.idle.set()

    def _dispatch(self, load: Load) -> None:
        self._next_id += 1
        number = self._next_id
        self._open[number] = Inflow(number)
        prompt = f"#{self._next_id} {load.mode} {load.amount}#"
        request = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        self._send(
            {
                "type": "job",
                "job_id": job_id_of(number),
                "model_id": MODEL,
                "request": request,
                "stream_id": number,
                "window_bytes": WINDOW_BYTES,
            }
        )

    async def run(self, load: Load) -> dict[str, object]:
        """Drive one load; the measured window begins after every stream has begun and warmed up."""
        self._load = load
        self.idle.clear()
        self._all_began.clear()
        self._silent = set(range(self._next_id + 1, self._next_id + 1 + load.streams))
        for _ in range(load.streams):
            self._dispatch(load)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGINNING_S):
                await self._all_began.wait()
        load.unbegun = 0 if self._all_began.is_set() else len(self._silent)
        await asyncio.sleep(load.warm_up_s)
        say("started")
        load.measuring, began_s = True, time.monotonic()
        await asyncio.sleep(load.seconds)
        load.measuring, elapsed_s = False, time.monotonic() - began_s
        say("stopped")
        load.finishing = True
        self._control.write(struct.pack("<I", FINISH_ALL))
        try:
            async with asyncio.timeout(40):
                await self.idle.wait()
        except TimeoutError:
            sys.exit(f"{load.mode}: jobs without an outcome: {sorted(self._open)}")
        self._load = None
        return load.result(elapsed_s)


def job_id_of(number: int) -> str:
    return f"j{number:08}"


def age_us(data: bytes) -> float:
    """How long ago the engine wrote the last event of this chunk."""
    at = STAMP_AT - EVENT_BYTES
    stamp = data[at : at + STAMP_BYTES]
    return (time.monotonic_ns() - int(stamp)) / 1000 if stamp.isdigit() else 0.0


async def main(control_port: int) -> None:
    loop = asyncio.get_running_loop()
    control, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", control_port)
    ready = asyncio.Event()
    sessions: list[Session] = []

    def accept() -> Session:
        sessions.append(Session(control, ready))
        return sessions[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    say("listening", port=server.sockets[0].getsockname()[1])
    async with asyncio.timeout(20):
        await ready.wait()
    say("serving")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sessions[-1].ack_all())
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            say("result", **await sessions[-1].run(Load(line)))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
