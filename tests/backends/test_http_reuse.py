"""Which job gets a connection that served another one: real sockets, engines of every habit."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from provider_agent.backends.base import BackendError, BackendFailed, Call, FirstByteTimeout, StreamTruncated
from provider_agent.backends.http import EngineHttp
from tests.fakes.engine import DONE, Act, Answer, FakeEngine, chat_chunk, json_answer, sse
from tests.fakes.takers import take, whole

CHAT = "/v1/chat/completions"
LATE_S = 5.0
BODY = chat_chunk("a", "stop") + DONE


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


def call(*, first_byte_s: float = LATE_S) -> Call:
    return Call(
        CHAT, "tiny", b'{"stream":true}', True, first_byte_timeout_s=first_byte_s, idle_timeout_s=LATE_S
    )


async def ask(http: EngineHttp, engine: FakeEngine, key: str | None = None) -> bytes:
    async with asyncio.timeout(LATE_S), http.open(engine.url, call(), key) as reply:
        return await whole(reply)


def kept(*steps: bytes, **options: object) -> Answer:
    return sse(*(steps or (BODY,)), keeps=True, **options)


async def turns() -> None:
    """The loop sees what there is to see."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_next_job_uses_the_connection_of_the_last_one(http: EngineHttp, engine: FakeEngine) -> None:
    """Where the engine keeps it: a dial costs more than a short job."""
    engine.will_answer(
        kept(), kept(), json_answer({"id": 1}, chunked=False, keeps=True, headers={"Content-Length": "9"})
    )

    assert await ask(http, engine) == BODY
    assert await ask(http, engine) == BODY
    assert await ask(http, engine) == b'{"id": 1}'
    assert len(engine.connections) == 1
    assert "connection" not in engine.posts[0].headers


async def test_jobs_at_the_same_time_have_their_own(http: EngineHttp, engine: FakeEngine) -> None:
    """One answer at a time."""
    gate = asyncio.Event()
    engine.will_answer(kept(chat_chunk("a"), gate, BODY), kept())  # type: ignore[arg-type]
    async with asyncio.timeout(LATE_S), asyncio.TaskGroup() as group:
        first = group.create_task(ask(http, engine))
        await engine.has_received()
        assert await ask(http, engine) == BODY
        gate.set()

    assert first.result() == chat_chunk("a") + BODY
    assert len(engine.connections) == 2


async def test_another_key_gets_another_connection(http: EngineHttp, engine: FakeEngine) -> None:
    """An engine may remember who spoke first."""
    engine.will_answer(kept(), kept())
    await ask(http, engine, "sk-1")
    await ask(http, engine, "sk-2")

    assert len(engine.connections) == 2


@pytest.mark.parametrize("answer", [sse(BODY), sse(BODY, chunked=False)])
async def test_an_engine_that_says_it_closes_is_believed(
    http: EngineHttp, engine: FakeEngine, answer: Answer
) -> None:
    """Or whose body ends where the connection does."""
    engine.will_answer(answer, answer)

    assert [await ask(http, engine), await ask(http, engine)] == [BODY, BODY]
    assert len(engine.connections) == 2


@pytest.mark.parametrize("wait", [True, False])
async def test_an_engine_that_closes_after_each_answer_costs_no_job(
    http: EngineHttp, engine: FakeEngine, wait: bool
) -> None:
    """llama-server announces to keep its connections, and does not; seen by the loop already or not."""
    engine.will_answer(*(kept(afterwards=Act.CUT) for _ in range(20)))
    for _ in range(20):
        assert await ask(http, engine) == BODY
        if wait:
            await asyncio.wait_for(engine.connections[-1].closed.wait(), LATE_S)
            await turns()

    assert len(engine.posts) == 20


async def test_an_engine_that_closes_later_costs_no_job(http: EngineHttp, engine: FakeEngine) -> None:
    """While the connection rests: it is not used again."""
    gate = asyncio.Event()
    engine.will_answer(kept(afterwards=gate), kept())
    await ask(http, engine)
    gate.set()
    await asyncio.wait_for(engine.connections[0].closed.wait(), LATE_S)

    assert await ask(http, engine) == BODY
    assert len(engine.connections) == 2


@pytest.mark.parametrize("act", [Act.CUT, Act.RESET])
async def test_an_engine_that_closes_upon_the_next_request_costs_no_job(
    http: EngineHttp, engine: FakeEngine, act: Act
) -> None:
    """Not one byte of an answer came: the request goes over a fresh connection, once."""
    engine.will_answer(kept(), sse(before_headers=act), kept())
    await ask(http, engine)

    assert await ask(http, engine) == BODY
    assert len(engine.posts) == 3


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """An engine that dies of a request must not be fed it for ever."""
    engine.will_answer(kept(), sse(before_headers=Act.CUT), sse(before_headers=Act.CUT), kept())
    await ask(http, engine)
    with pytest.raises(BackendFailed, match="closed the connection without an answer"):
        await ask(http, engine)

    assert len(engine.posts) == 3


async def test_a_request_that_was_answered_in_part_is_not_sent_again(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Whatever came of it, the engine was at work."""
    engine.will_answer(kept(), Answer((Act.CUT,), sent_as=b"HTTP/1.1 200 O"))
    await ask(http, engine)
    with pytest.raises(BackendFailed, match="closed the connection without an answer"):
        await ask(http, engine)

    assert len(engine.posts) == 2


async def test_silence_on_a_used_connection_is_silence(http: EngineHttp, engine: FakeEngine) -> None:
    """A long prefill is no closed connection."""
    engine.will_answer(kept(), sse(before_headers=Act.SILENCE))
    await ask(http, engine)
    with pytest.raises(FirstByteTimeout):
        async with http.open(engine.url, call(first_byte_s=0.05)):
            pass

    assert len(engine.posts) == 2


@pytest.mark.parametrize("surplus", [b"garbage", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])
async def test_what_an_engine_says_unasked_is_nobodys_answer(
    http: EngineHttp, engine: FakeEngine, surplus: bytes
) -> None:
    """A second answer that comes while nothing was asked would be given to the next job."""
    engine.will_answer(kept(afterwards=surplus), kept())
    await ask(http, engine)
    await asyncio.wait_for(engine.connections[0].closed.wait(), LATE_S)

    assert await ask(http, engine) == BODY
    assert len(engine.connections) == 2


async def test_after_an_error_a_connection_is_not_used_again(http: EngineHttp, engine: FakeEngine) -> None:
    """Nor after a refusal, a cancel, or an answer that is not whole."""
    error = b'data: {"error":{"message":"x"}}\n\n'
    engine.will_answer(
        kept(error),
        json_answer({}, 500, keeps=True),
        kept(chat_chunk("a")),
        kept(chat_chunk("a"), Act.SILENCE),  # type: ignore[arg-type]
    )
    for _ in range(3):
        with pytest.raises((BackendError, StreamTruncated)):
            await ask(http, engine)
    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        await take(reply, chat_chunk("a"))
    engine.will_answer(kept())
    assert await ask(http, engine) == BODY

    assert len(engine.connections) == 5


async def test_leaving_the_client_closes_what_rests(engine: FakeEngine) -> None:
    """No connection outlives the process's use for it."""
    engine.will_answer(kept())
    async with EngineHttp() as http:
        await ask(http, engine)
        assert not engine.connections[0].closed.is_set()

    await asyncio.wait_for(engine.connections[0].closed.wait(), LATE_S)
