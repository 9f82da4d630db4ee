"""How llama-cpp-python's server is spared; the rest is in the contract of all adapters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from provider_agent.backends.base import (
    BackendFailed,
    BackendModel,
    BackendSettings,
    BackendUnreachable,
    Call,
    FirstByteTimeout,
    ModelNotFound,
    StreamTruncated,
)
from provider_agent.backends.families import identify
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.llamacpp_python import LlamaCppPythonBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS
from tests.fakes import engine_pages
from tests.fakes.engine import DONE, Act, FakeEngine, chat_chunk, html, models_page, sse
from tests.fakes.takers import take, whole

LATE_S = 5.0
QUIET = "/openapi.json"
LIST = "/v1/models"


class Met(NamedTuple):
    """An engine that was met, and what it is asked from then on."""

    engine: FakeEngine
    backend: LlamaCppPythonBackend
    http: EngineHttp

    def call(self, model: str = "tiny", *, within_s: float = LATE_S) -> Call:
        return Call(CHAT, model, b'{"stream":true}', True, within_s, LATE_S)

    def asked_since(self, count: int) -> list[str]:
        return [request.path for request in self.engine.requests[count:]]

    async def restarts_with(self, model: str) -> None:
        """It listens again before anybody looks."""
        await self.engine.stop()
        self.engine.pages[LIST] = models_page(model, owned_by="me")
        await self.engine.start(self.engine.port)

    async def run(self, call: Call) -> bytes:
        async with asyncio.timeout(LATE_S), self.backend.open(call) as reply:
            return await whole(reply)


@asynccontextmanager
async def met(**settings: int) -> AsyncIterator[Met]:
    async with engine_pages.FamilyEngine(engine_pages.llamacpp_python()) as engine, EngineHttp() as http:
        said = BackendSettings("llamacpp-python", max_concurrent=settings.get("max_concurrent"))
        backend = LlamaCppPythonBackend(http, said, url=engine.url, name="x")
        assert await backend.list_models()
        yield Met(engine, backend, http)


async def test_it_is_asked_for_its_models_once() -> None:
    """To ask for them breaks off whatever it writes for others; its description can be had at any time."""
    async with met() as it:
        before = len(it.engine.requests)
        models = await it.backend.list_models()

        assert models == (
            BackendModel("tiny", frozenset({CHAT, COMPLETIONS}), max_concurrent=1, is_loaded=True),
        )
        assert it.asked_since(before) == [QUIET]


async def test_it_is_known_again_without_that_question() -> None:
    """Each look at an address asks who is there."""
    async with met() as it:
        before = len(it.engine.requests)
        family = await identify(it.http, it.engine.url, timeout_s=LATE_S, before="llamacpp-python")

        assert family is LlamaCppPythonBackend
        assert it.asked_since(before) == [QUIET]


async def test_another_engine_at_its_address_is_recognised() -> None:
    """It is no longer what it was, and then it is asked all there is to ask."""
    async with met() as it:
        it.engine.pages.clear()
        it.engine.pages.update(engine_pages.vllm())
        family = await identify(it.http, it.engine.url, timeout_s=LATE_S, before="llamacpp-python")

    assert family is not None
    assert family.kind == "vllm"


async def test_while_it_works_for_us_it_is_asked_nothing() -> None:
    """The job itself tells if it dies."""
    async with met() as it:
        it.engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
        async with asyncio.timeout(LATE_S), it.backend.open(it.call()) as reply:
            await take(reply, chat_chunk("a"))
            before = len(it.engine.requests)
            models = await it.backend.list_models()

        assert [model.model_id for model in models] == ["tiny"]
        assert it.asked_since(before) == []


async def test_jobs_go_one_after_the_other_whatever_the_operator_allows() -> None:
    """A second one would break off the first."""
    async with met(max_concurrent=4) as it:
        assert it.backend.max_concurrent == 1
        gate = asyncio.Event()
        it.engine.will_answer(sse(chat_chunk("a", "stop"), gate, DONE))
        first = asyncio.create_task(it.run(it.call()))
        await it.engine.has_received(2)  # the question whether it embeds was one
        with pytest.raises(FirstByteTimeout, match="another job"):
            await it.run(it.call(within_s=0.05))
        second = asyncio.create_task(it.run(it.call()))
        gate.set()

        assert (await first).endswith(DONE)
        assert (await second).endswith(DONE)


async def test_a_job_asks_nothing_of_the_process_that_told_its_models() -> None:
    """It is the same as long as the connection lives on which nothing is asked."""
    async with met() as it:
        before = len(it.engine.requests)
        await it.run(it.call())

        assert it.asked_since(before) == [CHAT]


async def test_a_process_that_took_its_place_is_asked_for_its_models_at_the_next_look() -> None:
    """It may have been away for so short that nobody saw it."""
    async with met() as it:
        await it.restarts_with("other")
        before = len(it.engine.requests)
        family = await identify(it.http, it.engine.url, timeout_s=LATE_S, before="llamacpp-python")
        models = await it.backend.list_models()

        assert family is LlamaCppPythonBackend
        assert [model.model_id for model in models] == ["other"]
        assert it.asked_since(before) == [QUIET, LIST, EMBEDDINGS]


async def test_and_before_a_job_that_comes_first() -> None:
    """It would answer to any name with what it has."""
    async with met() as it:
        await it.restarts_with("other")
        before = len(it.engine.requests)
        with pytest.raises(ModelNotFound):
            await it.run(it.call())
        assert it.asked_since(before) == [LIST]

        assert await it.run(it.call("other"))


async def test_a_process_that_has_not_told_its_models_has_none_of_the_last_ones() -> None:
    """Neither a look that failed nor one that is under way makes it the one that was known."""
    async with met() as it:
        await it.restarts_with("other")
        others, it.engine.pages[LIST] = it.engine.pages[LIST], html()
        with pytest.raises(BackendFailed):
            await it.backend.list_models()
        it.engine.pages[LIST] = others
        before = len(it.engine.posts)
        with pytest.raises(ModelNotFound):
            await it.run(it.call())
        assert len(it.engine.posts) == before

        assert [model.model_id for model in await it.backend.list_models()] == ["other"]


async def test_one_that_is_gone_is_unreachable_and_no_more_than_that() -> None:
    """Until it is back."""
    async with met() as it:
        await it.engine.stop()
        for _ in range(2):
            with pytest.raises(BackendUnreachable):
                await it.backend.list_models()


async def test_somebody_elses_job_is_waited_for_as_long_as_for_a_first_byte() -> None:
    """Its list waits for the same lock; that is no dead engine."""
    async with met() as it:
        await it.restarts_with("tiny")
        it.engine.pages[LIST] = sse(Act.SILENCE)

        with pytest.raises(FirstByteTimeout, match="somebody else's job"):
            await it.run(it.call(within_s=0.05))


async def test_a_stream_that_somebody_else_broke_off_is_not_whole() -> None:
    """It ends with `[DONE]`, as 0.3.36 was seen to do, and without a finish reason."""
    async with met() as it:
        it.engine.will_answer(sse(chat_chunk("a"), DONE))
        taken: list[bytes] = []
        async with asyncio.timeout(LATE_S), it.backend.open(it.call()) as reply:
            with pytest.raises(StreamTruncated, match="called it done"):
                await reply.relay(taken.append)

    assert b"".join(taken) == chat_chunk("a")


async def test_a_list_that_fails_fails_the_job() -> None:
    """Nothing is sent to an engine that is something else by now."""
    async with met() as it:
        await it.restarts_with("tiny")
        it.engine.pages[LIST] = html()
        before = len(it.engine.posts)
        with pytest.raises(BackendFailed):
            await it.run(it.call())

        assert len(it.engine.posts) == before


@pytest.mark.parametrize(
    ("vector", "more"), [([0.1, -0.2], {EMBEDDINGS}), ([[0.1], [0.2]], set()), ([], set()), ({}, set())]
)
async def test_whether_it_embeds_is_tried_once(vector: object, more: set[str]) -> None:
    """It tells nowhere; a vector for each token is of no use to OpenAI's clients."""
    (model,) = await engine_pages.models_of("llamacpp-python", engine_pages.llamacpp_python(embeds=vector))

    assert model.endpoints == {CHAT, COMPLETIONS} | more


async def test_of_several_models_none_is_loaded_by_asking() -> None:
    """One is in memory, and it does not say which."""
    pages = {**engine_pages.llamacpp_python(embeds=[0.1]), LIST: models_page("a", "b", owned_by="me")}
    models = await engine_pages.models_of("llamacpp-python", pages)

    assert [(model.is_loaded, EMBEDDINGS in model.endpoints) for model in models] == [(None, False)] * 2
