"""What Ollama tells, and its own endpoints; the rest is in the contract of all adapters."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from provider_agent.backends.base import BackendModel, BackendSettings, Call, StreamFailed, Usage
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.ollama import OllamaBackend
from tests.fakes import engine_pages
from tests.fakes.engine import Act, Answer, Connection, FakeEngine, Received, json_answer, ndjson
from tests.fakes.takers import whole

TOKEN = b'{"model":"tiny","message":{"role":"assistant","content":"a"},"done":false}\n'
LAST = b'{"model":"tiny","message":{"content":""},"done":true,"prompt_eval_count":4,"eval_count":1}\n'


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with engine_pages.FamilyEngine(engine_pages.ollama()) as fake:
        yield fake


@pytest.fixture
async def backend(engine: FakeEngine) -> AsyncIterator[OllamaBackend]:
    async with EngineHttp() as http:
        yield OllamaBackend(http, BackendSettings("ollama"), url=engine.url, name="x")


def call(endpoint: str, body: bytes = b"{}", *, stream: bool = True) -> Call:
    return Call(endpoint, "tiny", body, stream, first_byte_timeout_s=5, idle_timeout_s=5)


async def run(backend: OllamaBackend, asked: Call) -> tuple[bytes, Usage]:
    async with asyncio.timeout(5), backend.open(asked) as reply:
        relayed = await whole(reply)
    return relayed, reply.usage


async def test_a_model_is_told_with_digest_and_context(backend: OllamaBackend) -> None:
    """What is really served, for all of OpenAI's endpoints and its own."""
    (model,) = await backend.list_models()

    assert (model.fingerprint, model.context_window) == ("sha256:" + "ab" * 32, 1024)
    assert model.endpoints >= {"/v1/chat/completions", "/api/chat", "/api/generate", "/api/embed"}


async def test_what_a_model_can_do_beside_text_is_told(backend: OllamaBackend) -> None:
    """In the same words."""
    (model,) = await backend.list_models()

    assert model.features == frozenset({"tools"})


@pytest.mark.parametrize("capabilities", [7, True, "embedding", {"embedding": 1}])
async def test_capabilities_that_are_no_list_say_nothing(
    backend: OllamaBackend, engine: FakeEngine, capabilities: object
) -> None:
    """Any program can imitate the listing."""
    listed = [{"name": "tiny", "details": {}, "capabilities": capabilities}]
    engine.pages["/api/tags"] = json_answer({"models": listed})

    told = [(model.is_embedding, model.features) for model in await backend.list_models()]
    assert told == [(False, None)]


@pytest.mark.parametrize("endpoint", ["/api/chat", "/api/generate"])
async def test_its_own_stream_comes_through_verbatim(
    backend: OllamaBackend, engine: FakeEngine, endpoint: str
) -> None:
    """Lines of JSON, counted by its own names; streaming is its default and need not be written."""
    engine.will_answer(ndjson(TOKEN, LAST, stays_open=True))

    assert await run(backend, call(endpoint)) == (TOKEN + LAST, Usage(4, 1))
    assert (engine.posts[-1].path, engine.posts[-1].json()) == (endpoint, {"model": "tiny"})


async def test_an_answer_in_one_piece_is_asked_for(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Else it would stream."""
    engine.will_answer(json_answer(LAST))

    assert await run(backend, call("/api/chat", stream=False)) == (LAST, Usage(4, 1))
    assert engine.posts[-1].json()["stream"] is False


async def test_embeddings(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Only the input is counted."""
    engine.will_answer(json_answer({"model": "tiny", "embeddings": [[0.5]], "prompt_eval_count": 2}))

    assert (await run(backend, call("/api/embed", stream=False)))[1] == Usage(2, None)


async def test_an_error_line_in_the_stream_fails(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Field note 28: its status stays 200."""
    engine.will_answer(ndjson(TOKEN, b'{"error":"an error was encountered while running the model"}\n'))

    with pytest.raises(StreamFailed):
        await run(backend, call("/api/chat"))


async def test_a_model_that_only_embeds_is_told_apart(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Embedding models are exposed for embeddings only."""
    engine.pages.update(engine_pages.ollama(capabilities=("embedding",)))

    assert [model.is_embedding for model in await backend.list_models()] == [True]


async def test_a_model_that_runs_elsewhere_is_not_listed(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Field note 23: a prompt meant for this machine must not go to a paid remote."""
    near = {"name": "tiny", "digest": "aa", "details": {}}
    far = {"name": "big-cloud", "digest": "bb", "details": {}, "remote_host": "https://ollama.com:443"}
    engine.pages["/api/tags"] = json_answer({"models": [far, near]})

    assert [model.model_id for model in await backend.list_models()] == ["tiny"]


async def test_details_are_asked_once_for_each_model(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Every 30 s for each of fifty models would wear the engine out; a new digest is a new model."""
    await backend.list_models()
    await backend.list_models()
    assert [json.loads(each.body)["model"] for each in engine.posts] == ["tiny"]
    engine.pages["/api/tags"] = json_answer({"models": [{"name": "tiny", "digest": "new", "details": {}}]})
    await backend.list_models()

    assert len(engine.posts) == 2


async def test_what_is_in_memory_is_warm(backend: OllamaBackend, engine: FakeEngine) -> None:
    """The others are loaded first, which takes a minute; a server that does not say is not guessed at."""
    assert [model.is_loaded for model in await backend.list_models()] == [True]
    engine.pages.update(engine_pages.ollama(loaded=False))
    assert [model.is_loaded for model in await backend.list_models()] == [False]
    del engine.pages["/api/ps"]
    assert [model.is_loaded for model in await backend.list_models()] == [None]


def in_memory(expires_at: str, **more: str) -> Answer:
    """`/api/ps`, as the engine says it at twelve o'clock."""
    running = {"name": "tiny", "model": "tiny", "expires_at": expires_at, **more}
    return json_answer({"models": [running]}, headers={"Date": "Fri, 21 Aug 2026 12:00:00 GMT"})


async def test_a_model_is_loaded_without_a_prompt(backend: OllamaBackend, engine: FakeEngine) -> None:
    """It stays for a while, and not for ever: an agent that is gone must not hold memory."""
    engine.pages.update(engine_pages.ollama(loaded=False))
    await backend.keep_warm(BackendModel("tiny", frozenset()), within_s=5)

    assert [(each.path, each.json()) for each in engine.posts] == [
        ("/api/generate", {"model": "tiny", "prompt": "", "keep_alive": "15m", "stream": False})
    ]


async def test_a_model_that_only_embeds_is_loaded_by_nothing_to_embed(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    """It refuses to generate."""
    engine.pages.update(engine_pages.ollama(loaded=False))
    await backend.keep_warm(BackendModel("tiny", frozenset(), is_embedding=True), within_s=5)

    assert [(each.path, each.json()["input"]) for each in engine.posts] == [("/api/embed", "")]


@pytest.mark.parametrize(
    ("expires_at", "is_renewed"),
    [
        ("2026-08-21T12:14:59.123456789Z", False),
        ("2026-08-21T14:04:59.9+02:00", False),
        ("2318-01-01T00:00:00Z", False),
        ("2026-08-21T12:01:59Z", True),
        ("2026-08-21T11:00:00Z", True),
        ("2026-08-21T12:14:59", True),
        ("soon", True),
    ],
)
async def test_a_model_is_renewed_shortly_before_it_would_leave(
    backend: OllamaBackend, engine: FakeEngine, expires_at: str, is_renewed: bool
) -> None:
    """By the engine's own clock; a job of a client brings the default time back, which may be short."""
    engine.pages["/api/ps"] = in_memory(expires_at)
    await backend.keep_warm(BackendModel("tiny", frozenset(), is_loaded=True), within_s=5)

    assert [each.path for each in engine.posts] == ["/api/generate"] * is_renewed


async def test_a_model_is_renewed_when_the_engine_does_not_say_how_long_it_stays(
    backend: OllamaBackend, engine: FakeEngine
) -> None:
    """Once too often is better than once too rarely."""
    await backend.keep_warm(BackendModel("tiny", frozenset(), is_loaded=True), within_s=5)
    del engine.pages["/api/ps"]
    await backend.keep_warm(BackendModel("tiny", frozenset(), is_loaded=True), within_s=5)

    assert [each.path for each in engine.posts] == ["/api/generate"] * 2


@pytest.mark.parametrize(("said", "slots"), [(None, 1), (4, None)])
async def test_it_runs_one_job_of_a_model_at_a_time_unless_the_operator_says_otherwise(
    said: int | None, slots: int | None
) -> None:
    """`OLLAMA_NUM_PARALLEL` is 1, and told by no page; more would wait in silence."""
    (model,) = await engine_pages.models_of("ollama", engine_pages.ollama(), max_concurrent=said)

    assert model.max_concurrent == slots


async def test_no_models_are_no_models(backend: OllamaBackend, engine: FakeEngine) -> None:
    """Before the first pull."""
    engine.pages["/api/tags"] = json_answer({"models": []})

    assert await backend.list_models() == ()


class OllamaThatHangs(engine_pages.FamilyEngine):
    """Never tells the details of some models."""

    def __init__(self, *names: str, hangs: str) -> None:
        listed = [{"name": each, "model": each, "digest": each, "details": {}} for each in names]
        super().__init__({**engine_pages.ollama(), "/api/tags": json_answer({"models": listed})})
        self.hangs = hangs

    def answer(self, request: Received, connection: Connection) -> Answer:
        if request.path == "/api/show" and request.json()["model"] == self.hangs:
            return json_answer({}, before_headers=Act.SILENCE)
        return super().answer(request, connection)


class HastyOllama(OllamaBackend):
    """Waits hardly for what it can do without."""

    patience_s: ClassVar[float] = 0.2


async def test_a_model_whose_details_do_not_come_costs_no_other_its_place() -> None:
    """It is offered, too; what came of the others is not asked again."""
    async with OllamaThatHangs("a", "b", "c", hangs="b") as engine, EngineHttp() as http, asyncio.timeout(5):
        backend = HastyOllama(http, BackendSettings("ollama"), url=engine.url, name="x")
        models = await backend.list_models()
        asked = len(engine.posts)
        again = await backend.list_models()

    assert [(each.model_id, each.context_window) for each in models] == [
        ("a", 1024),
        ("b", None),
        ("c", 1024),
    ]
    assert again == models
    assert (asked, len(engine.posts)) == (3, 4)
