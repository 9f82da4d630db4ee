"""A stream opens late, is written as it comes, and ends in words when it fails."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from provider_agent.coordinator.answer import DONE, Answer
from provider_agent.coordinator.failures import failed
from provider_agent.coordinator.http.dialect import ANTHROPIC, OLLAMA, OPENAI, Dialect
from provider_agent.coordinator.http.errors import failed_json
from provider_agent.coordinator.http.server import Runner
from provider_agent.coordinator.http.stream import AnswerStream
from provider_agent.protocol.errors import ErrorCode

FAILED = failed(ErrorCode.STREAM_ERROR, "the engine failed")
HEADERS = {"X-Job-Id": "j"}
COMMENT = OPENAI.waiting
ERROR_EVENT = b"data: " + failed_json(OPENAI, FAILED) + b"\n\n"


Script = Callable[[AnswerStream, Answer], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def stream(script: Script, dialect: Dialect = OPENAI) -> AsyncIterator[aiohttp.ClientResponse]:
    """What a client gets when the script plays."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = Answer("j", 1000)
        return await script(AnswerStream(request, answer, dialect), answer)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = Runner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            yield response
    finally:
        await runner.cleanup()


async def test_bytes_are_written_as_they_are() -> None:
    """Under the headers of an event stream."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        answer.feed(b"data: 1\n\n")
        answer.feed(b"data: 2\n\n")
        answer.end(DONE)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        assert await response.read() == b"data: 1\n\ndata: 2\n\n"
    assert (response.headers["Content-Type"], response.headers["X-Job-Id"]) == ("text/event-stream", "j")


async def test_a_failure_before_anything_was_written_is_an_ordinary_error() -> None:
    """With its status."""

    async def script(out: AnswerStream, _: Answer) -> web.StreamResponse:
        return await out.fail(FAILED, HEADERS)

    async with stream(script) as response:
        assert (response.status, response.headers["Content-Type"]) == (502, "application/json")
    assert response.headers["X-Job-Id"] == "j"


async def test_a_failure_after_a_comment_is_an_event() -> None:
    """The status has been sent."""

    async def script(out: AnswerStream, _: Answer) -> web.StreamResponse:
        await out.keep_alive(HEADERS)
        return await out.fail(FAILED, HEADERS)

    async with stream(script) as response:
        assert (response.status, await response.read()) == (200, COMMENT + ERROR_EVENT)


async def test_bytes_may_follow_comments() -> None:
    """The engine has begun to answer."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        await out.keep_alive(HEADERS)
        assert out.is_open
        await out.keep_alive(HEADERS)
        answer.feed(b"data: 1\n\n")
        answer.end(DONE)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        assert await response.read() == COMMENT + COMMENT + b"data: 1\n\n"


async def test_a_failure_after_half_an_event_is_an_event_of_its_own() -> None:
    """Two line breaks end whatever the engine had begun."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        answer.feed(b"data: ha")
        answer.take()
        answer.end(FAILED)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        assert await response.read() == b"\n\n" + ERROR_EVENT


async def test_a_failure_comes_behind_the_bytes_that_the_client_is_owed() -> None:
    """Those that waited when it came."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        answer.feed(b"data: 1\n\n")
        answer.take()
        answer.feed(b"data: 2\n\n")
        answer.end(FAILED)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        assert await response.read() == b"data: 2\n\n" + ERROR_EVENT


@pytest.mark.parametrize(
    "writes",
    [
        (b"data: 1\n\n",),
        (b"data: 1\n", b"\n"),
        (b"data: 1\r\n\r\n",),
        (b"data: 1\r\n\r", b"\n"),
        (b"data: 1\r\r",),
        (b"data: 1\n\n: still here\n\n",),
    ],
)
async def test_a_failure_after_whole_events_leaves_them_alone(writes: tuple[bytes, ...]) -> None:
    """However their lines end and wherever they were cut: blank lines between events are none themselves."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        for data in writes:
            answer.feed(data)
            answer.take()
        answer.end(FAILED)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        lines = (b"".join(writes) + await response.read()).splitlines()

    assert [line for line in lines if line.startswith(b"data:")] == [b"data: 1", ERROR_EVENT.strip()]
    assert lines[lines.index(ERROR_EVENT.strip()) - 1] == b""


async def test_an_answer_without_bytes_is_an_empty_stream() -> None:
    """Not an error."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        answer.end(DONE)
        return await out.relay(HEADERS)

    async with stream(script) as response:
        assert (response.status, await response.read()) == (200, b"")


# --- other dialects ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "begun", "gap"),
    [
        (ANTHROPIC, b"event: ping\n", b"\n\n"),
        (ANTHROPIC, b"event: ping\n\n", b""),
        (OLLAMA, b'{"done":fa', b"\n"),
        (OLLAMA, b'{"done":false}\n', b""),
    ],
)
async def test_a_failure_is_an_event_or_line_of_its_own_in_every_dialect(
    dialect: Dialect, begun: bytes, gap: bytes
) -> None:
    """Behind whatever the engine had begun."""

    async def script(out: AnswerStream, answer: Answer) -> web.StreamResponse:
        answer.feed(begun)
        answer.take()
        answer.end(FAILED)
        return await out.relay(HEADERS)

    async with stream(script, dialect) as response:
        last = dialect.error_begin + failed_json(dialect, FAILED) + dialect.piece_end
        assert await response.read() == gap + last
    assert response.headers["Content-Type"] == dialect.stream_type


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, OLLAMA])
async def test_a_failure_after_a_sign_of_life_is_told_in_every_dialect(dialect: Dialect) -> None:
    """No gap is needed: nothing of an answer was seen."""

    async def script(out: AnswerStream, _: Answer) -> web.StreamResponse:
        await out.keep_alive(HEADERS)
        return await out.fail(FAILED, HEADERS)

    async with stream(script, dialect) as response:
        last = dialect.error_begin + failed_json(dialect, FAILED) + dialect.piece_end
        assert await response.read() == dialect.waiting + last
