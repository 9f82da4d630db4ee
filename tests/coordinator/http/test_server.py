"""A client's mistakes cost it its connection, and neither its secrets nor our patience."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from provider_agent.coordinator.http.server import Runner
from provider_agent.transport.tcp import is_reading
from tests.fakes.coordinators import until
from tests.fakes.logs import LogLines

LIMIT_S = 10.0
SECRET = b"my-secret-prompt"
POST = b"POST /v1/thing HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v1/thing HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Server:
    """A route that answers when it is told to.

    Attributes:
        go: the handler may go on.
        asked: a request has reached the handler.
        left: the handler was told that its client is gone.
    """

    runner: Runner
    port: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    log: LogLines = field(default_factory=LogLines)

    @property
    def is_held_up(self) -> bool:
        """Whether it does not read from somebody."""
        assert self.runner.server is not None
        transports = [each.transport for each in self.runner.server.connections]
        return any(each is not None and not is_reading(each) for each in transports)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return web.Response(body=await request.read())

    async def connect(self, message: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(message)
        return reader, writer

    async def tell(self, message: bytes) -> bytes:
        """Send this, and read until the server closes."""
        reader, writer = await self.connect(message)
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def server(*, head_patience_s: float = 60.0, handle: Handler | None = None) -> AsyncIterator[Server]:
    app = web.Application(client_max_size=1024**2)
    runner = Runner(app, access_log=None, handler_cancellation=True, head_patience_s=head_patience_s)
    it = Server(runner)
    app.router.add_route("*", "/v1/thing", handle or it.handle)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.port = runner.addresses[0][1]
    try:
        async with asyncio.timeout(LIMIT_S):
            yield it
    finally:
        await runner.cleanup()


async def test_a_request_is_served() -> None:
    """The ordinary case."""
    async with server() as it:
        it.go.set()
        answer = await it.tell(POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhi")


async def test_the_server_does_not_tell_what_it_is_made_of() -> None:
    """Versions help nobody but those who look for holes: neither routes tell them nor refusals."""
    async with server() as it:
        it.go.set()
        answers = [
            await it.tell(message)
            for message in (
                GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
                SECRET + b"\r\n\r\n",
                POST + b"Expect: a miracle\r\nConnection: close\r\n\r\n",
            )
        ]

    assert [answer.count(b"\r\nServer: provider-agent\r\n") for answer in answers] == [1, 1, 1]
    assert b"aiohttp" not in b"".join(answers)


async def test_what_a_client_expects_in_vain_is_refused_in_the_usual_shape() -> None:
    """The library answers that before the application has a say."""
    async with server() as it:
        answer = await it.tell(POST + b"Expect: a miracle\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 417 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "expectation_failed"


# --- what is no HTTP ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake",
    [
        POST + b"Content-Length: 2\r\n\r\n{}" + SECRET,
        POST + b"X-Api-Key: " + SECRET + b"\x01\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + SECRET + b"\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}" + SECRET + b"\r\n",
        SECRET + b"\r\n\r\n",
    ],
    ids=["wrong length", "control character", "no chunk", "wrong chunk length", "no request"],
)
async def test_what_is_no_http_is_refused_without_being_quoted(mistake: bytes) -> None:
    """Neither in the answer, which has OpenAI's shape, nor in the log, which says its kind."""
    async with server() as it:
        it.go.set()
        answer = await it.tell(mistake)

    head, _, body = answer[answer.rindex(b"HTTP/1.") :].partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert json.loads(body)["error"] == {
        "message": "the request is not valid HTTP",
        "type": "invalid_request_error",
        "param": None,
        "code": "bad_request",
    }
    assert SECRET not in answer
    assert SECRET.decode() not in it.log.getvalue()
    assert {("connection_failed", "debug")} == {(each["event"], each["level"]) for each in it.log.entries}
    assert all("exception" not in each for each in it.log.entries)


async def test_a_body_that_breaks_after_the_answer_is_no_noise() -> None:
    """It is read only to be thrown away."""

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    async with server(handle=refuse) as it:
        answer = await it.tell(POST + b"Content-Encoding: gzip\r\nContent-Length: 16\r\n\r\n" + SECRET)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert {"debug"} == {each["level"] for each in it.log.entries}
    assert "zlib" not in it.log.getvalue()


async def test_a_defect_that_nothing_caught_is_told_by_its_class() -> None:
    """As an error, for it is ours; its text may quote the request."""

    async def crash(_: web.Request) -> web.StreamResponse:
        raise KeyError(SECRET.decode())

    async with server(handle=crash) as it:
        answer = await it.tell(GET)

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert SECRET not in answer
    assert [(each["level"], each["error"]) for each in it.log.entries] == [("error", "KeyError")]


async def test_a_defect_in_the_middle_of_an_answer_cuts_it() -> None:
    """No second answer is written into the first."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise KeyError(SECRET.decode())

    async with server(handle=half) as it:
        answer = await it.tell(GET)

    assert answer.endswith(b"4\r\nhalf\r\n")


# --- patience ----------------------------------------------------------------------------


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET /v1/thing HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_without_a_whole_head_is_closed(beginning: bytes) -> None:
    """Else anybody could use up all our sockets, without a key."""
    async with server(head_patience_s=0.01) as it:
        assert await it.tell(beginning) == b""


async def test_a_request_that_waits_for_its_answer_is_left_in_peace() -> None:
    """However long that takes: patience is for the head."""
    async with server(head_patience_s=0.2) as it:
        reader, writer = await it.connect(GET)
        await it.asked.wait()
        assert await it.tell(b"GET /") == b""  # one that came later has been closed since

        it.go.set()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


# --- requests that are sent before the last one is answered ------------------------------

_LARGE = POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 900_000


@pytest.mark.parametrize("crowd", [GET * 100, _LARGE], ids=["many", "a large one"])
async def test_a_client_that_sends_more_than_is_read_is_hung_up_on(crowd: bytes) -> None:
    """What is not read cannot tell that the client leaves: its job would run on (field note 70)."""
    async with server() as it:
        _, writer = await it.connect(GET + crowd)
        await it.asked.wait()
        await it.left.wait()
        writer.transport.abort()


async def test_a_few_requests_may_be_sent_at_once() -> None:
    """They are answered in their order."""
    async with server() as it:
        reader, writer = await it.connect(GET * 3)
        await it.asked.wait()
        it.go.set()
        answers = [await reader.readuntil(b"\r\n\r\n") for _ in range(3)]
        writer.close()

    assert [answer.partition(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 3


async def test_a_large_body_may_follow_an_answer_at_once() -> None:
    """Nobody was waiting for anything when it came."""
    async with server() as it:
        it.go.set()
        reader, writer = await it.connect(GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(POST + b"Connection: close\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000)
        answer = await reader.read()
        writer.close()

    assert answer.endswith(b"\r\n\r\n" + b"x" * 900_000)


async def test_a_large_body_that_had_to_wait_is_read_on() -> None:
    """Nothing of it was read while its handler was busy."""
    async with server() as it:
        reader, writer = await it.connect(
            POST + b"Connection: close\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000
        )
        await it.asked.wait()
        await until(lambda: it.is_held_up)
        it.go.set()
        writer.write(b"y" * 100_000)
        answer = await reader.read()
        writer.close()

    assert answer.endswith(b"\r\n\r\n" + b"x" * 900_000 + b"y" * 100_000)
