"""The dispatcher's side of answers, played by a test: with an agent behind it that keeps to its window."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.answer import DONE, Answer
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.fleet import Fleet
from provider_agent.coordinator.http.errors import tell_errors
from provider_agent.coordinator.http.openai import OpenAIDoor
from provider_agent.coordinator.http.server import Connection, Runner
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.protocol.window import WINDOW_BYTES
from tests.fakes.transports import MemoryTransport

HOST = "127.0.0.1"
LIMIT_S = 20.0
"""How long one test may take."""


@dataclass(eq=False)
class Asked:
    """One request, and the answer that the test gives.

    Attributes:
        told: what was said to be consumed, in order.
        most_waiting_bytes: the most that the answer ever held.
        over: whoever served the request does not want the answer any more.
    """

    request: JobRequest
    told: list[int] = field(default_factory=list)
    most_waiting_bytes: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answer = Answer("job-1", 8 * 1024**2, self._on_consumed)
        self._moved = asyncio.Event()

    @property
    def consumed_bytes(self) -> int:
        return self.told[-1] if self.told else 0

    @property
    def unconsumed_bytes(self) -> int:
        return self.answer.total_bytes - self.consumed_bytes

    def _on_consumed(self, total_bytes: int) -> None:
        self.told.append(total_bytes)
        self._moved.set()

    def leave(self) -> None:
        self.over.set()
        self._moved.set()

    def give(self, data: bytes) -> None:
        """One chunk, come what may."""
        assert self.answer.feed(data)
        self.most_waiting_bytes = max(self.most_waiting_bytes, self.answer.waiting_bytes)

    async def supply(self, *chunks: bytes) -> None:
        """Many chunks, never more than a window unconsumed."""
        for data in chunks:
            while not self.over.is_set() and self.unconsumed_bytes + len(data) > WINDOW_BYTES:
                self._moved.clear()
                await self._moved.wait()
            if self.over.is_set():
                return
            self.give(data)

    async def supply_all(self, *chunks: bytes) -> None:
        await self.supply(*chunks)
        self.answer.end(DONE)


class ScriptedDispatcher:
    """Hands every request to the test."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.asked: asyncio.Queue[Asked] = asyncio.Queue()

    @contextlib.contextmanager
    def run(self, request: JobRequest) -> Iterator[Answer]:
        asked = Asked(request)
        self.asked.put_nowait(asked)
        try:
            yield asked.answer
        finally:
            asked.leave()


def request(*, stream: bool = True, version: str = "1.1") -> bytes:
    body = b'{"model":"m","stream":%s}' % (b"true" if stream else b"false")
    head = b"POST /v1/chat/completions HTTP/%s\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    return head % (version.encode(), len(body)) + body


@dataclass
class Door:
    """OpenAI's door on loopback, before a dispatcher that the test plays."""

    dispatcher: ScriptedDispatcher
    port: int
    tasks: asyncio.TaskGroup
    server: web.Server
    trust: ssl.SSLContext | None

    @property
    def connections(self) -> int:
        return len(self.server.connections)

    async def client(
        self, *, stream: bool = True, version: str = "1.1", times: int = 1, lazy: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has asked so many times over one connection; a lazy one hardly reads ahead."""
        limit_bytes = 1024 if lazy else 2**16
        reader, writer = await asyncio.open_connection(HOST, self.port, limit=limit_bytes, ssl=self.trust)
        writer.write(request(stream=stream, version=version) * times)
        return reader, writer

    def client_in_memory(self, *, times: int = 1) -> tuple[Connection, MemoryTransport]:
        """One that has asked over a connection that the test plays, too."""
        connection, wire = self.server(), MemoryTransport()
        assert isinstance(connection, Connection)
        wire.protocol = connection
        connection.connection_made(wire)
        connection.data_received(request() * times)
        return connection, wire

    async def asked(self) -> Asked:
        return await self.dispatcher.asked.get()


@asynccontextmanager
async def door(
    *,
    keepalive_s: float = 60.0,
    write_patience_s: float = 60.0,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[Door]:
    """As `app.py` builds it; with TLS, its clients trust whom they are told to."""
    dispatcher = ScriptedDispatcher()
    admission = Admission(MemoryStore(), dev=True)
    app = web.Application(middlewares=[tell_errors])
    OpenAIDoor(cast("Dispatcher", dispatcher), admission, keepalive_s=keepalive_s).add_to(app)
    runner = Runner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=0.1,
        write_patience_s=write_patience_s,
    )
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
    try:
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            assert runner.server is not None
            yield Door(dispatcher, runner.addresses[0][1], tasks, runner.server, trust)
    finally:
        await runner.cleanup()


def dechunk(raw: bytes) -> tuple[bytes, bytes]:
    """The body of a response in chunked encoding, read strictly, and what follows it."""
    body = b""
    while True:
        size_line, found, raw = raw.partition(b"\r\n")
        assert found, "cut in the size of a chunk"
        size = int(size_line, 16)
        assert size_line == b"%x" % size, size_line
        data, end, raw = raw[:size], raw[size : size + 2], raw[size + 2 :]
        assert (len(data), end) == (size, b"\r\n"), "cut in a chunk"
        if size == 0:
            return body, raw
        body += data


async def let_pass(seconds: float) -> None:
    """For what must not happen meanwhile, and so cannot be waited for."""
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, passed.set_result, None)
    await passed


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """The rest of a response in chunked encoding; what follows it stays in the reader."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body
