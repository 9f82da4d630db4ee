"""The simulator in each family's dialect, behind that family's adapter: they understand each other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from provider_agent.backends.base import (
    Backend,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendModel,
    BackendSettings,
    BackendUnreachable,
    Call,
    ModelNotFound,
    RateLimited,
    StreamFailed,
    StreamTruncated,
    Usage,
)
from provider_agent.backends.families import FAMILIES, identify
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.request import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RERANK,
    RESPONSES,
)
from provider_agent.simulator import Failures, Pace, Simulator, SimulatorConfig
from provider_agent.simulator.dialects import DIALECTS
from tests.fakes.simulators import HandTime, until_slots
from tests.fakes.takers import Taker, relaying, whole

LATE_S = 10.0
SLOTS, WINDOW = 3, 2048
SLOW = Pace(0.0, 0.1)
NEVER = Pace(3600.0, 0.0)

KINDS = {api: api.removesuffix("-router") for api in sorted(DIALECTS)}
TELL_NO_WINDOW = {"jan", "llamafile", "transformers", "mlx", "llamacpp-python"}
TELL_SLOTS = {"sglang", "llamacpp", "llamacpp-router", "lmstudio", "tgi"}
ONE_SLOT = {"ollama", "koboldcpp", "llamafile", "llamacpp-python"}
LOAD_ON_DEMAND = {"llamacpp-router", "lmstudio", "ollama", "localai", "docker"}
TELL_NO_STATE = {"openai", "remote", "transformers", "mlx"}
COUNT_NO_STREAMS = {"llamacpp-python"}
ALL_BUT_MODELS = {"koboldcpp", "llamacpp", "llamafile", "sglang", "tgi"}
"""They answer with their one model, whatever a request calls it."""

ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"max_tokens": 500, "messages": [{"role": "user", "content": "hello"}]},
    OLLAMA_CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    OLLAMA_GENERATE: {"prompt": "hello"},
    EMBEDDINGS: {"input": ["hello"]},
    OLLAMA_EMBED: {"input": ["hello"]},
    RERANK: {"query": "hello", "documents": ["hello you", "good night"]},
}
WRITTEN = {CHAT, COMPLETIONS, RESPONSES, MESSAGES, OLLAMA_CHAT, OLLAMA_GENERATE}


@dataclass(frozen=True)
class Line:
    """A simulated engine, and the agent's side of it."""

    api: str
    simulator: Simulator
    backend: Backend
    http: EngineHttp

    async def model(self) -> BackendModel:
        (model,) = await self.backend.list_models()
        return model

    def call(self, endpoint: str = CHAT, *, stream: bool = True, model: str | None = None) -> Call:
        body = json.dumps({**ASKED[endpoint], "stream": stream} if endpoint in WRITTEN else ASKED[endpoint])
        name = model or self.simulator.models[0]
        return Call(endpoint, name, body.encode(), stream, first_byte_timeout_s=LATE_S, idle_timeout_s=LATE_S)

    async def run(self, asked: Call | None = None) -> tuple[bytes, Usage]:
        async with asyncio.timeout(LATE_S), self.backend.open(asked or self.call()) as reply:
            return await whole(reply), reply.usage


@asynccontextmanager
async def line(api: Any, *, time: HandTime | None = None, **settings: Any) -> AsyncIterator[Line]:
    """An engine with one model `tiny`, unless the settings say otherwise."""
    config = SimulatorConfig(
        **{"api": api, "models": ("tiny",), "slots": SLOTS, "context_window": WINDOW, **settings}
    )
    engine = Simulator(config) if time is None else Simulator(config, clock=time, sleep=time.sleep)
    async with asyncio.timeout(LATE_S), engine as simulator, EngineHttp() as http:
        kind = KINDS[api]
        backend = FAMILIES[kind](http, BackendSettings(kind), url=simulator.url, name="it")
        yield Line(api, simulator, backend, http)


def test_each_family_has_its_dialect() -> None:
    """llama.cpp has two: alone, and as a router."""
    assert set(KINDS.values()) == FAMILIES.keys()


@pytest.mark.parametrize("api", KINDS)
async def test_it_is_recognised_as_itself(api: str) -> None:
    """By its answers: the port is a random one."""
    async with line(api) as it:
        family = await identify(it.http, it.simulator.url, timeout_s=LATE_S)

    assert family is FAMILIES[KINDS[api]]


@pytest.mark.parametrize("api", KINDS)
async def test_its_models_are_listed_as_they_are_configured(api: str) -> None:
    """Names and endpoints; slots, window and state as far as the family tells them."""
    async with line(api) as it:
        model = await it.model()

    assert model.model_id in {"tiny", "tiny:latest"}
    assert model.endpoints == DIALECTS[api].endpoints >= FAMILIES[KINDS[api]].endpoints
    assert not model.is_embedding
    assert model.context_window == (None if api in TELL_NO_WINDOW else WINDOW)
    assert model.max_concurrent == (SLOTS if api in TELL_SLOTS else 1 if api in ONE_SLOT else None)
    assert model.is_loaded is (None if api in TELL_NO_STATE else True)


ENDPOINTS = [(api, endpoint) for api in KINDS for endpoint in sorted(DIALECTS[api].endpoints)]


@pytest.mark.parametrize(("api", "endpoint"), ENDPOINTS)
async def test_each_endpoint_answers_whole_and_counted(api: str, endpoint: str) -> None:
    """Streamed, it has more than one event, and counts as many tokens as in one piece."""
    async with line(api) as it:
        body, usage = await it.run(it.call(endpoint, stream=False))
        assert json.loads(body)
        assert (usage.input_tokens or 0) > 0
        if endpoint in WRITTEN:
            streamed, counted = await it.run(it.call(endpoint))
            assert counted == (Usage() if api in COUNT_NO_STREAMS else usage)
            assert (usage.output_tokens or 0) > 0
            assert streamed.count(b"\n") > 5


@pytest.mark.parametrize("api", KINDS)
async def test_one_job_after_the_other_is_served(api: str) -> None:
    """Also where the engine drops the connection after each stream."""
    async with line(api) as it:
        answers = [(await it.run())[1] for _ in range(3)]

    assert len(set(answers)) == 1


@pytest.mark.parametrize("api", KINDS)
async def test_leaving_frees_the_slot(api: str) -> None:
    """In the middle of an answer."""
    async with line(api, pace=SLOW) as it:
        async with it.backend.open(it.call()) as reply:
            taker = Taker()
            async with relaying(reply, taker):
                await taker.has_begun()
            assert it.simulator.slots.busy == 1
        await until_slots(it.simulator, busy=0)


@pytest.mark.parametrize("api", KINDS)
async def test_leaving_before_the_first_byte_frees_the_slot(api: str) -> None:
    """A job that is answered in one piece, say."""
    async with line(api, pace=NEVER) as it:
        job = asyncio.create_task(it.run(it.call(stream=False)))
        await until_slots(it.simulator, busy=1)
        job.cancel()
        await until_slots(it.simulator, busy=0)
        await asyncio.wait((job,))


TROUBLE: list[tuple[str, type[BackendError]]] = [
    ("status=429", RateLimited),
    ("status=500", BackendFailed),
    ("status=503", BackendLoading),
    ("html", BackendFailed),
    ("empty", BackendFailed),
    ("cut-after=3", StreamTruncated),
    ("end-after=3", StreamTruncated),
    ("error-after=3", StreamFailed),
]


@pytest.mark.parametrize(("order", "error"), TROUBLE)
@pytest.mark.parametrize("api", KINDS)
async def test_trouble_is_told_as_what_it_is(api: str, order: str, error: type[BackendError]) -> None:
    """At every endpoint that streams, in each family's own way to say it."""
    async with line(api, failures=Failures.parse([order])) as it:
        for endpoint in sorted(WRITTEN & DIALECTS[api].endpoints):
            with pytest.raises(error) as told:
                await it.run(it.call(endpoint))
            assert told.value.retry_after_ms == (1000 if order in {"status=429", "status=503"} else None)


@pytest.mark.parametrize("endpoint", [MESSAGES, RESPONSES, OLLAMA_CHAT, OLLAMA_GENERATE])
async def test_a_stream_without_its_end_mark_is_not_whole(endpoint: str) -> None:
    """Where nothing else says that the answer has ended."""
    async with line("ollama", failures=Failures(no_done=True)) as it:
        with pytest.raises(StreamTruncated):
            await it.run(it.call(endpoint))


@pytest.mark.parametrize("api", KINDS)
async def test_a_model_that_is_not_there(api: str) -> None:
    """Is not found, unless the engine has one and does not read the name."""
    async with line(api) as it:
        asked = it.call(model="nobody")
        if api in ALL_BUT_MODELS:
            await it.run(asked)
            return
        with pytest.raises(ModelNotFound):
            await it.run(asked)


@pytest.mark.parametrize("api", sorted(KINDS.keys() - {"tgi", "llamacpp-python"}))
async def test_more_jobs_than_slots_wait_in_silence(api: str) -> None:
    """Without a header; the first that leaves lets the next one in."""
    async with line(api, slots=1, pace=SLOW) as it:
        async with it.backend.open(it.call()):
            waiting = asyncio.create_task(it.run(it.call(stream=False)))
            await until_slots(it.simulator, busy=1, waiting=1)
        await until_slots(it.simulator, busy=1)
        waiting.cancel()
        await asyncio.wait((waiting,))


@pytest.mark.parametrize(
    ("api", "waiting", "error"), [("tgi", 0, RateLimited), ("koboldcpp", 6, BackendLoading)]
)
async def test_beyond_its_limit_it_refuses(api: str, waiting: int, error: type[BackendError]) -> None:
    """At once, and with the family's own status."""
    async with line(api, slots=1, pace=NEVER) as it:
        jobs = [asyncio.create_task(it.run()) for _ in range(1 + waiting)]
        await until_slots(it.simulator, busy=1, waiting=waiting)
        with pytest.raises(error):
            await it.run()
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)


@pytest.mark.parametrize("api", sorted(LOAD_ON_DEMAND))
async def test_a_cold_model_is_loaded_by_its_first_job(api: str) -> None:
    """It is listed as cold; the job waits; then the model is warm."""
    time = HandTime()
    async with line(api, time=time, load_s=60.0) as it:
        cold = await it.model()
        job = asyncio.create_task(it.run())
        await time.somebody_sleeps()
        loading = await it.model()
        time.advance(60)
        await job
        warm = await it.model()

    assert (cold.is_loaded, loading.is_loaded, warm.is_loaded) == (False, False, True)


@pytest.mark.parametrize("api", sorted(LOAD_ON_DEMAND))
async def test_a_cold_model_is_loaded_to_be_warm_without_a_job(api: str) -> None:
    """It is waited for, and needs nothing once it is there."""
    time = HandTime()
    async with line(api, time=time, load_s=60.0) as it:
        cold = await it.model()
        loading = asyncio.create_task(it.backend.keep_warm(cold, within_s=LATE_S))
        await time.somebody_sleeps()
        time.advance(60)
        await loading
        warm = await it.model()
        await it.backend.keep_warm(warm, within_s=LATE_S)
        await until_slots(it.simulator, 0)

    assert (cold.is_loaded, warm.is_loaded) == (False, True)


async def test_llamacpp_says_that_it_is_loading() -> None:
    """503 on every page; and it is known all the same."""
    time = HandTime()
    async with line("llamacpp", time=time, load_s=60.0) as it:
        assert await identify(it.http, it.simulator.url, timeout_s=LATE_S) is FAMILIES["llamacpp"]
        with pytest.raises(BackendLoading):
            await it.backend.list_models()
        with pytest.raises(BackendLoading):
            await it.run()
        time.advance(60)
        assert (await it.model()).is_loaded


@pytest.mark.parametrize("api", sorted(KINDS.keys() - LOAD_ON_DEMAND - {"llamacpp", "transformers", "mlx"}))
async def test_others_do_not_listen_until_they_are_loaded(api: str) -> None:
    """Nobody is there, and then an engine is."""
    time = HandTime()
    async with line(api, time=time, load_s=60.0) as it:
        await time.somebody_sleeps()
        with pytest.raises(BackendUnreachable):
            await it.backend.list_models()
        time.advance(60)
        # A real socket: nothing in this process announces that it listens.
        while not (models := await listed(it.backend)):  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert len(models) == 1


async def listed(backend: Backend) -> tuple[BackendModel, ...]:
    """Its models, or none while nobody listens."""
    try:
        return await backend.list_models()
    except BackendUnreachable:
        return ()


async def test_transformers_ends_without_a_mark_and_counts_unasked() -> None:
    """A finish reason, and then the end of the body."""
    async with line("transformers") as it:
        relayed, usage = await it.run()

    assert b"[DONE]" not in relayed
    assert b'"usage"' in relayed
    assert usage.output_tokens


async def test_ollama_is_told_how_long_a_model_stays() -> None:
    """An empty request loads it; with 0 it goes; else it stays as long as the last one said."""
    time = HandTime()
    async with line("ollama", time=time, load_s=1.0) as it:

        async def keep(said: Any) -> Any:
            body = json.dumps({"model": "tiny", "keep_alive": said, "stream": False}).encode()
            page = it.http.ask(it.simulator.url, OLLAMA_GENERATE, body=body, timeout_s=LATE_S)
            return (await page).require()["done_reason"]

        loading = asyncio.create_task(keep("2m"))
        await time.somebody_sleeps()
        time.advance(1)
        assert await loading == "load"
        time.advance(119)
        assert (await it.model()).is_loaded
        time.advance(1)
        assert not (await it.model()).is_loaded
