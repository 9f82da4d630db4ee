"""`engine.c` for machines without a C compiler: it saturates before a fast relay does.

The prompt tells it what to do: `#<stream> <mode> <amount>#`, modes:

- `lockstep`: one event whenever the control connection names the stream, until told to finish;
- `paced`: `amount` events a second, each with the time at which it was written, until told to finish;
- `blast`: events as fast as they are taken, 16 KiB to a write, until told to finish;
- `bulk`: the same, each write one HTTP chunk;
- `once`: one event, and the end.

Control connection: little-endian u32 per command; `FINISH_ALL` ends every stream.
"""

import asyncio
import json
import socket
import struct
import time
from typing import cast

import uvloop

FINISH_ALL = 0xFFFFFFFF
EVENT_BYTES = 160
MODEL = "bench"
BLAST_EVENTS = 102  # as many as fit into 16 KiB

_OPEN = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk",'
    b'"choices":[{"index":0,"delta":{"content":" '
)
_CLOSE = b'"},"finish_reason":null}]}\n\n'
STAMP_AT = len(_OPEN)
STAMP_BYTES = EVENT_BYTES - len(_OPEN) - len(_CLOSE)
END = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":7,'
    b'"completion_tokens":1,"total_tokens":8}}\n\ndata: [DONE]\n\n'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
MODELS = json.dumps(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "bench"}]}
).encode()


def event(stamp: bytes) -> bytes:
    return _OPEN + stamp.rjust(STAMP_BYTES, b"0") + _CLOSE


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENT = http_chunk(event(b"word"))
ENDLESS = {b"blast": EVENT * BLAST_EVENTS, b"bulk": http_chunk(event(b"word") * BLAST_EVENTS)}
LAST = http_chunk(END) + b"0\r\n\r\n"


class Engine:
    """What connections share: the open streams by number."""

    def __init__(self) -> None:
        self.streams: dict[int, Connection] = {}

    def finish_all(self) -> None:
        for connection in list(self.streams.values()):
            connection.finish()


class Control(asyncio.Protocol):
    """The coordinator's say: which stream goes on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) & ~3
        self._rest = data[whole:]
        streams = self._engine.streams
        for number in struct.unpack(f"<{whole >> 2}I", data[:whole]):
            if number == FINISH_ALL:
                self._engine.finish_all()
            elif (connection := streams.get(number)) is not None:
                connection.transport.write(EVENT)


class Connection(asyncio.Protocol):
    """One HTTP connection; requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._received = b""
        self._number = -1
        self._interval_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._endless = b""
        self._writable = True
        self._close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._forget()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < content_length(head):
            return
        self._received = b""
        self._close_after = b"connection: close" in head.lower()
        if head.startswith(b"POST /v1/chat/completions"):
            self._answer(body)
        else:
            self._write_plain(b"200 OK" if head.startswith(b"GET /v1/models") else b"404 Not Found")

    def _write_plain(self, status: bytes) -> None:
        body = MODELS if status.startswith(b"200") else b'{"error":{"message":"no such path"}}'
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _answer(self, body: bytes) -> None:
        number, mode, amount = body.split(b"#")[1].split()
        self._number = int(number)
        self._engine.streams[self._number] = self
        if mode == b"once":
            self.transport.write(HEAD + EVENT + LAST)
            self._end()
            return
        self.transport.write(HEAD + EVENT)
        if mode == b"paced":
            self._interval_s = 1 / float(amount)
            self._due_s = time.monotonic()
            self._tick()
        elif mode in ENDLESS:
            self._endless = ENDLESS[mode]
            self._blast()

    def _tick(self) -> None:
        self.transport.write(http_chunk(event(b"%d" % time.monotonic_ns())))
        self._due_s += self._interval_s
        self._timer = asyncio.get_running_loop().call_later(
            max(0.0, self._due_s - time.monotonic()), self._tick
        )

    def _blast(self) -> None:
        if self._endless and self._writable:
            self.transport.write(self._endless)
            asyncio.get_running_loop().call_soon(self._blast)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._blast()

    def finish(self) -> None:
        self._forget()
        self.transport.write(LAST)
        self._end()

    def _end(self) -> None:
        self._forget()
        if self._close_after:
            self.transport.close()

    def _forget(self) -> None:
        self._engine.streams.pop(self._number, None)
        self._endless = b""
        if self._timer is not None:
            self._timer.cancel()


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main() -> None:
    engine = Engine()
    loop = asyncio.get_running_loop()
    http = await loop.create_server(lambda: Connection(engine), "127.0.0.1", 0, backlog=1024)
    control = await loop.create_server(lambda: Control(engine), "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (http, control)]
    print(json.dumps({"event": "listening", "http": ports[0], "control": ports[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
