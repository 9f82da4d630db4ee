"""The ceiling for Python: streams of an engine to one TCP connection, as they come, one write per loop turn.

The other end asks for each stream with u32 length (little-endian) and the request's bytes. Nothing is
parsed, nothing is framed, nothing is checked: what a relay costs beyond this is what it does.
"""

import argparse
import asyncio
from typing import cast

import uvloop

AT_ONCE_BYTES = 16 * 1024


class Sink(asyncio.Protocol):
    """The one connection that all bytes leave by."""

    def __init__(self, engine_port: int) -> None:
        self._engine_port = engine_port
        self._loop = asyncio.get_running_loop()
        self._orders = b""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self.engines: set[asyncio.Transport] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._orders += data
        while len(self._orders) >= 4:
            end = 4 + int.from_bytes(self._orders[:4], "little")
            if len(self._orders) < end:
                return
            request, self._orders = self._orders[4:end], self._orders[end:]
            dialled = self._loop.create_connection(
                lambda request=request: Engine(self, request), "127.0.0.1", self._engine_port
            )
            task = self._loop.create_task(dialled)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def send(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= AT_ONCE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0

    def pause_writing(self) -> None:
        for engine in self.engines:
            engine.pause_reading()

    def resume_writing(self) -> None:
        for engine in self.engines:
            engine.resume_reading()


class Engine(asyncio.Protocol):
    """One stream's connection."""

    def __init__(self, sink: Sink, request: bytes) -> None:
        self._sink = sink
        self._request = request
        self.data_received = sink.send  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sink.engines.add(self._transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._sink.engines.discard(self._transport)


async def main(sink_port: int, engine_port: int) -> None:
    await asyncio.get_running_loop().create_connection(lambda: Sink(engine_port), "127.0.0.1", sink_port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sink", type=int)
    parser.add_argument("engine", type=int)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.sink, arguments.engine))
