"""A loopback HTTP server that answers as a test says, byte for byte; knows no adapter and no engine family.

async with FakeEngine() as engine:
    engine.will_answer(sse(CHUNK, gate, DONE))     # the next POST
    engine.pages["/v1/models"] = json_answer(...)  # every GET of that path
    ...
    assert engine.requests[-1].json()["model"] == "tiny"
    await engine.connections[-1].closed.wait()     # the client has gone
"""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self

DONE = b"data: [DONE]\n\n"


class Act(Enum):
    """What an engine may do instead of sending the next piece."""

    CUT = "close the connection without ending the body"
    RESET = "close the connection so that the client reads a reset"
    SILENCE = "send nothing more until the client leaves"


Step = bytes | asyncio.Event | Act


@dataclass(frozen=True)
class Answer:
    """One scripted answer.

    Attributes:
        steps: the body: pieces to send as they are, events to wait for between them, acts of trouble.
        before_headers: an event to wait for, or an act, before the status line.
        chunked: HTTP chunks; else the body ends where the connection does.
        stays_open: the body is never ended and the connection never closed by the engine.
        keeps: the connection is announced as one to use again.
        afterwards: with `keeps`, what the engine does instead of waiting for the next request: send these
            bytes, or wait for the event and then close the connection, or close it at once.
        sent_as: exactly these bytes, head and all, instead of what the other attributes say.
    """

    steps: Sequence[Step] = ()
    status: int = 200
    content_type: str | None = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    before_headers: asyncio.Event | Act | None = None
    chunked: bool = True
    stays_open: bool = False
    keeps: bool = False
    afterwards: asyncio.Event | Act | bytes | None = None
    sent_as: bytes | None = None


def sse(*steps: Step, **options: Any) -> Answer:
    """A stream of server-sent events; each piece is sent as it is."""
    return Answer(steps, **options)


def ndjson(*steps: Step, **options: Any) -> Answer:
    """A stream of JSON lines, as Ollama's."""
    return Answer(steps, content_type="application/x-ndjson", **options)


def json_answer(value: object, status: int = 200, **options: Any) -> Answer:
    """One JSON document, or any bytes said to be one."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Answer((body,), status=status, content_type="application/json", **options)


def html(status: int = 200) -> Answer:
    """What a wrong server, or a proxy in the way, says."""
    return Answer((b"<!doctype html><html><body>Welcome</body></html>",), status, "text/html")


def models_page(*model_ids: str, owned_by: str = "fake", **more: object) -> Answer:
    """A `/v1/models` listing; `more` goes into each model."""
    data = [{"id": each, "object": "model", "created": 1, "owned_by": owned_by, **more} for each in model_ids]
    return json_answer({"object": "list", "data": data})


def chat_chunk(text: str, finish_reason: str | None = None) -> bytes:
    """One event of a streamed chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def usage_event(input_tokens: int, output_tokens: int) -> bytes:
    """The extra event that `stream_options.include_usage` asks for."""
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return b"data: " + json.dumps({"id": "c1", "choices": [], "usage": usage}).encode() + b"\n\n"


def whole_chat() -> Answer:
    """The ordinary case: three events, usage, end mark."""
    return sse(chat_chunk("Hel"), chat_chunk("lo"), chat_chunk("", "stop"), usage_event(3, 2), DONE)


@dataclass(frozen=True)
class Received:
    """One request as it came. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Connection:
    """One connection of a client; it carries one request, unless an answer `keeps` it.

    Attributes:
        closed: set when the client has closed its end, or the engine both.
        closed_at_s: when the client did, by the loop's clock; None if it did not.
        sent_bytes: of the body, that the kernel has taken, or will at once.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = asyncio.Event()
        self.closed_at_s: float | None = None
        self.sent_bytes = 0
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Received:
        """Raises IncompleteReadError when the client leaves before its request is whole."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = request_line.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Received(method, path, headers, body)

    async def watch(self) -> None:
        """Notice the client's leaving, for as long as it takes."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass
        self.closed_at_s = asyncio.get_running_loop().time()
        self.closed.set()

    async def send(self, answer: Answer) -> None:
        """Play the script; returns early when the client leaves."""
        try:
            if answer.before_headers is not None and not await self._waited(answer.before_headers):
                return
            self._writer.write(_head(answer) if answer.sent_as is None else answer.sent_as)
            for step in answer.steps:
                if isinstance(step, bytes):
                    await self._write(step, answer)
                elif not await self._waited(step):
                    return
            if answer.stays_open:
                await self.closed.wait()
            elif answer.chunked and answer.sent_as is None:
                self._writer.write(b"0\r\n\r\n")
                await self._writer.drain()
        except ConnectionError:
            return

    async def _write(self, piece: bytes, answer: Answer) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        await self._writer.drain()
        self.sent_bytes += len(piece)

    async def _waited(self, step: asyncio.Event | Act) -> bool:
        """False when nothing may follow."""
        if isinstance(step, asyncio.Event):
            return await self._either(step)
        if step is Act.SILENCE:
            await self.closed.wait()
        if step is Act.RESET:  # lingering for no time turns the close into a reset
            linger_for_no_time = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time
            )
        return False

    async def _either(self, gate: asyncio.Event) -> bool:
        waits = {asyncio.ensure_future(each.wait()) for each in (gate, self.closed)}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return gate.is_set()

    async def goes_on(self, afterwards: asyncio.Event | Act | bytes | None) -> bool:
        """After an answer that keeps the connection: True if the next request is to be read."""
        if isinstance(afterwards, bytes):
            self._writer.write(afterwards)
            await self.watch()
            return False
        if isinstance(afterwards, asyncio.Event):
            await afterwards.wait()
            return False
        return afterwards is None

    def close(self) -> None:
        self._writer.close()


class FakeEngine:
    """See the module.

    Attributes:
        pages: answers to GET, by path; a path that is not here gets 404. Starts with one model, `tiny`.
        requests: every request, in order of arrival.
        connections: every connection, in order of arrival.
        answers_ended: how many scripts were played to their end, or to the client's leaving.
        host, tls: where it listens, and what makes it speak TLS; to be set before it starts.
    """

    def __init__(self, models: Sequence[str] = ("tiny",), owned_by: str = "fake") -> None:
        self.host = "127.0.0.1"
        self.tls: ssl.SSLContext | None = None
        self.pages: dict[str, Answer] = {"/v1/models": models_page(*models, owned_by=owned_by)}
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self.answers_ended = 0
        self.port = 0
        self._script: deque[Answer] = deque()
        self._arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return sum(not each.closed.is_set() for each in self.connections)

    @property
    def posts(self) -> list[Received]:
        """The requests for inference, without those of a health check."""
        return [each for each in self.requests if each.method == "POST"]

    def will_answer(self, *answers: Answer) -> None:
        """Answer the next POSTs so, in this order; when none is left, the answer is `whole_chat()`."""
        self._script.extend(answers)

    async def has_received(self, count: int = 1) -> None:
        """Wait until so many POSTs have arrived in all."""
        while len(self.posts) < count:
            await self.news()

    async def news(self) -> None:
        """Wait for the next request."""
        self._arrived.clear()
        await self._arrived.wait()

    async def start(self, port: int = 0, listener: socket.socket | None = None) -> None:
        """Listen; a fixed port lets an engine come back where it was, a socket may be of another machine."""
        place: dict[str, Any] = {"host": self.host, "port": port} if listener is None else {"sock": listener}
        self._server = await asyncio.start_server(self._connected, ssl=self.tls, **place)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the door and every connection, as a killed process would."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(Connection(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        self.connections.append(connection)
        try:
            while await self._serve_one(connection):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            connection.closed.set()
            connection.close()

    async def _serve_one(self, connection: Connection) -> bool:
        """False after the last request of this connection."""
        request = await connection.receive()
        self.requests.append(request)
        answer = self.answer(request, connection)
        self._arrived.set()
        if answer.keeps:  # what is read then is the next request: nobody watches for the client's leaving
            await connection.send(answer)
            self.answers_ended += 1
            return await connection.goes_on(answer.afterwards)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(connection.watch())
            await connection.send(answer)
            self.answers_ended += 1
            connection.close()
            watch.cancel()
        return False

    def answer(self, request: Received, connection: Connection) -> Answer:
        """What it answers; other engines may have other rules."""
        path = request.path.partition("?")[0]
        if request.method == "GET" or path in self.pages:
            return self.pages.get(path) or json_answer({"error": {"message": "not found"}}, 404)
        return self._script.popleft() if self._script else whole_chat()


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Scripted", f"Connection: {'keep-alive' if answer.keeps else 'close'}"]
    if answer.content_type is not None:
        lines.append(f"Content-Type: {answer.content_type}")
    if answer.chunked:
        lines.append("Transfer-Encoding: chunked")
    lines += (f"{name}: {value}" for name, value in answer.headers.items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
