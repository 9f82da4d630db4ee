"""Each limit has its code, on a clock that jumps: executor and HTTP client are real, the engines are not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import pytest

from provider_agent.agent.executor import ExecutorLimits
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import BackendModel, BackendSettings, Usage
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.protocol.errors import ErrorCode
from tests.fakes.engine import DONE, chat_chunk, usage_event
from tests.fakes.executors import Bench, job
from tests.simulation.engine_sockets import STREAM_HEAD, Conversation, EngineLoop, Serve, never
from tests.simulation.loop import run_virtually

MINUTE_S: Final = 60.0
FIRST_BYTE_S: Final = ExecutorLimits().first_byte_timeout_s
PORT: Final = 8000
CHAT: Final = "/v1/chat/completions"
PING: Final = b": ping\n\n"


def run(engine: Serve | None, scene: Callable[[Bench], Awaitable[None]], **limits: float) -> None:
    """A job is submitted to this one engine; the scene is what follows."""

    async def play() -> None:
        async with EngineHttp() as http:
            backend = OpenAIBackend(http, BackendSettings("openai"), url=f"http://127.0.0.1:{PORT}", name="e")
            models = (BackendModel("m", frozenset({CHAT})),)
            table = RoutingTable(Catalog((CatalogEntry(backend, models, healthy=True),)), Policy())
            bench = Bench(table, ExecutorLimits(**limits))  # type: ignore[arg-type]
            async with bench.executor:
                bench.executor.attach(bench.line.channel, None)
                await scene(bench)

    run_virtually(play(), EngineLoop({PORT: engine}))


def ends(engine: Serve | None, *, deadline_ms: int | None = None, **limits: float) -> tuple[EndedJob, float]:
    """How a streamed job ended there, and after how many seconds."""
    ended: list[EndedJob] = []
    took_s = 0.0

    async def scene(bench: Bench) -> None:
        nonlocal took_s
        now = asyncio.get_running_loop().time
        began_s = now()
        bench.submit(job(request=msgspec.Raw(b'{"stream":true}'), deadline_ms=deadline_ms))
        for _ in range(10_000):
            await asyncio.sleep(1.0)
            if bench.ended:
                break
        took_s = now() - began_s
        ended.extend(bench.ended)

    run(engine, scene, **limits)
    return ended[0], took_s


def silent_for(silence_s: float, *, head_first: bool) -> Serve:
    """Nothing, or only headers, and then a whole stream."""

    async def serve(talk: Conversation, _request: bytes) -> None:
        if head_first:
            talk.say(STREAM_HEAD)
        await asyncio.sleep(silence_s)
        talk.say((b"" if head_first else STREAM_HEAD) + chat_chunk("a") + chat_chunk("", "stop"))
        talk.say(usage_event(3, 1) + DONE)

    return serve


@pytest.mark.parametrize("head_first", [False, True])
def test_an_engine_that_is_silent_for_ten_minutes_is_served(head_first: bool) -> None:
    """A model is loaded, a long prompt is read; also where its headers come at once (field note 20)."""
    ended, took_s = ends(silent_for(10 * MINUTE_S, head_first=head_first))

    assert (ended.code, ended.usage) == (None, Usage(3, 1))
    assert 600 <= took_s < 602


@pytest.mark.parametrize("head_first", [False, True])
def test_beyond_its_limit_the_first_byte_is_not_waited_for(head_first: bool) -> None:
    """Headers are no byte of the answer; the limit counts from the request (field note 17)."""
    ended, took_s = ends(silent_for(3600.0, head_first=head_first))

    assert ended.code is ErrorCode.FIRST_BYTE_TIMEOUT
    assert FIRST_BYTE_S <= took_s < FIRST_BYTE_S + 2


def test_a_stall_amid_the_stream_is_an_idle_engine() -> None:
    """After two minutes without a byte, by default; what was counted is known (field notes 14 and 17)."""

    async def stalls(talk: Conversation, _request: bytes) -> None:
        talk.say(STREAM_HEAD + chat_chunk("a"))
        await asyncio.sleep(100)
        talk.say(chat_chunk("b") + usage_event(3, 2))
        await never()

    ended, took_s = ends(stalls)

    assert (ended.code, ended.usage) == (ErrorCode.IDLE_TIMEOUT, Usage(3, 2))
    assert 220 <= took_s < 222


def test_an_engine_that_accepts_no_connection_is_unreachable() -> None:
    """After ten seconds; the limit for the first byte does not make it longer (field note 17)."""
    ended, took_s = ends(None)

    assert ended.code is ErrorCode.BACKEND_UNREACHABLE
    assert 10 <= took_s < 12


def test_a_whole_job_has_its_deadline() -> None:
    """However alive the engine is; what was counted until then is known (field notes 14 and 17)."""

    async def talks_for_ever(talk: Conversation, _request: bytes) -> None:
        talk.say(STREAM_HEAD)
        while not talk.left.is_set():
            talk.say(b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":3}}\n\n')
            await asyncio.sleep(1.0)

    ended, took_s = ends(talks_for_ever, deadline_ms=30_000)

    assert (ended.code, ended.usage) == (ErrorCode.BACKEND_TIMEOUT, Usage(3, None))
    assert 30 <= took_s < 32


def test_pings_keep_a_prefill_alive_for_an_hour() -> None:
    """Each is a sign of life, and none the first byte: the shorter limit between bytes does not hold yet."""

    async def pings(talk: Conversation, _request: bytes) -> None:
        talk.say(STREAM_HEAD)
        for _ in range(12):
            await asyncio.sleep(5 * MINUTE_S)
            talk.say(PING)
        talk.say(chat_chunk("a", "stop") + DONE)

    ended, took_s = ends(pings)

    assert ended.code is None
    assert 3600 <= took_s < 3602


def test_pings_amid_a_stream_keep_it_alive() -> None:
    """As llama.cpp's, every thirty seconds, while another client's long prompt is read."""

    async def pings(talk: Conversation, _request: bytes) -> None:
        talk.say(STREAM_HEAD + chat_chunk("a"))
        for _ in range(20):
            await asyncio.sleep(30)
            talk.say(PING)
        talk.say(chat_chunk("b", "stop") + DONE)

    assert ends(pings)[0].code is None


def test_pings_that_end_are_missed() -> None:
    """Before the answer at the limit for the first byte, in its middle at the one between bytes."""

    async def pings_once(talk: Conversation, request: bytes) -> None:
        talk.say(STREAM_HEAD + (chat_chunk("a") if b'"middle"' in request else b""))
        await asyncio.sleep(MINUTE_S)
        talk.say(PING)
        await never()

    ended, took_s = ends(pings_once)

    assert ended.code is ErrorCode.FIRST_BYTE_TIMEOUT
    assert FIRST_BYTE_S + 60 <= took_s < FIRST_BYTE_S + 62


def test_a_cancel_keeps_what_was_counted() -> None:
    """In the middle of an answer whose engine counts with each token (field note 14)."""
    ended: list[EndedJob] = []

    async def counts(talk: Conversation, _request: bytes) -> None:
        talk.say(STREAM_HEAD + b'data: {"choices":[],"timings":{"prompt_n":3,"predicted_n":2}}\n\n')
        await talk.left.wait()

    async def scene(bench: Bench) -> None:
        bench.submit(job(request=msgspec.Raw(b'{"stream":true}')))
        await asyncio.sleep(5)
        bench.executor.cancel("j")
        await asyncio.sleep(5)
        ended.extend(bench.ended)

    run(counts, scene)

    assert [(each.code, each.usage) for each in ended] == [(ErrorCode.CANCELLED, Usage(3, 2))]


def test_a_job_may_bring_limits_of_its_own() -> None:
    """They win over the agent's."""
    ended: list[Any] = []

    async def scene(bench: Bench) -> None:
        bench.submit(job(request=msgspec.Raw(b'{"stream":true}'), first_byte_timeout_ms=20_000))
        await asyncio.sleep(22)
        ended.extend(bench.ended)

    run(silent_for(3600.0, head_first=True), scene)

    assert [each.code for each in ended] == [ErrorCode.FIRST_BYTE_TIMEOUT]
