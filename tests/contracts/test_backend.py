"""What every adapter must do, whatever its engine; one suite over all of them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.backends.base import (
    AuthRejected,
    Backend,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendModel,
    BackendSettings,
    BackendUnreachable,
    BadRequest,
    Call,
    EndpointUnsupported,
    ModelNotFound,
    RateLimited,
    RequestTooLarge,
    StreamFailed,
    StreamTruncated,
    Usage,
)
from provider_agent.backends.families import FAMILIES, identify
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.protocol.frames import ModelOffer
from tests.fakes import engine_pages
from tests.fakes.engine import (
    DONE,
    Act,
    Answer,
    FakeEngine,
    chat_chunk,
    html,
    json_answer,
    sse,
    usage_event,
)
from tests.fakes.takers import take, whole

CHAT = "/v1/chat/completions"
LATE_S = 5.0


@pytest.fixture(params=sorted(FAMILIES))
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[FakeEngine]:
    async with engine_pages.FamilyEngine(engine_pages.FAMILIES[request.param]()) as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


@pytest.fixture
def kind(request: pytest.FixtureRequest, engine: FakeEngine) -> str:
    del engine  # its parameter is the kind
    return str(request.node.callspec.params["engine"])


@pytest.fixture
def backend(kind: str, engine: FakeEngine, http: EngineHttp) -> Backend:
    settings = BackendSettings(kind, api_key="sk-1", max_concurrent=3, priority=7)
    return FAMILIES[kind](http, settings, url=engine.url, name="mine")


def call(
    body: bytes = b'{"model":"theirs","stream":true}', endpoint: str = CHAT, *, stream: bool = True
) -> Call:
    return Call(endpoint, "tiny", body, stream, first_byte_timeout_s=LATE_S, idle_timeout_s=LATE_S)


async def run(backend: Backend, asked: Call) -> tuple[bytes, Usage]:
    async with asyncio.timeout(LATE_S), backend.open(asked) as reply:
        relayed = await whole(reply)
    return relayed, reply.usage


def test_it_is_what_the_operator_says(backend: Backend, kind: str, engine: FakeEngine) -> None:
    """Name, limits and order are the operator's; but whatever costs money comes last."""
    assert (backend.kind, backend.url, backend.name) == (kind, engine.url, "mine")
    assert backend.max_concurrent == (1 if kind == "llamacpp-python" else 3)  # it breaks off all but the last
    assert backend.priority == 7 or FAMILIES[kind].is_remote


async def test_it_is_recognised_by_its_answers(kind: str, engine: FakeEngine, http: EngineHttp) -> None:
    """Never by its port: this one is random."""
    family = await identify(http, engine.url, timeout_s=LATE_S)

    assert family is FAMILIES[kind]


async def test_it_lists_its_model_with_endpoints_and_context(backend: Backend, kind: str) -> None:
    """What the catalog is made of."""
    (model,) = await backend.list_models()

    assert (model.model_id, model.is_embedding) == ("tiny", False)
    assert model.context_window == (None if kind in engine_pages.TELL_NO_CONTEXT else 1024)
    assert CHAT in model.endpoints


async def test_what_is_served_has_a_short_name(backend: Backend) -> None:
    """A digest of what the engine tells of it, never a path or a template."""
    (model,) = await backend.list_models()

    assert model.fingerprint is None or re.fullmatch("sha256:[0-9a-f]{64}", model.fingerprint)


async def test_listing_twice_is_equal(backend: Backend) -> None:
    """Equal catalogs are not announced."""
    assert await backend.list_models() == await backend.list_models()


async def test_its_questions_carry_the_key(backend: Backend, engine: FakeEngine) -> None:
    """Field note 33: a local engine may want one, too."""
    await backend.list_models()

    assert {request.headers.get("authorization") for request in engine.requests} == {"Bearer sk-1"}


async def test_a_streamed_chat(backend: Backend, engine: FakeEngine) -> None:
    """Field notes 24 and 29: the routed model runs, usage is counted, and the event for it removed."""
    assert await run(backend, call()) == (
        chat_chunk("Hel") + chat_chunk("lo") + chat_chunk("", "stop") + DONE,
        Usage(3, 2),
    )
    assert engine.posts[-1].json() == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_client_that_asked_gets_its_usage(backend: Backend) -> None:
    """Field note 29."""
    asked = call(b'{"stream":true,"stream_options":{"include_usage":true}}')

    assert usage_event(3, 2) in (await run(backend, asked))[0]


@pytest.mark.parametrize("endpoint", [CHAT, "/v1/completions", "/v1/embeddings"])
async def test_an_answer_in_one_piece(backend: Backend, engine: FakeEngine, endpoint: str) -> None:
    """Byte for byte, and counted."""
    body = b'{"id": "x",  "usage": {"prompt_tokens": 5, "completion_tokens": 1}}'
    engine.pages.pop(endpoint, None)
    engine.will_answer(json_answer(body))

    assert await run(backend, call(b"{}", endpoint, stream=False)) == (body, Usage(5, 1))
    assert engine.posts[-1].path == endpoint


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequest),
        (401, AuthRejected),
        (403, AuthRejected),
        (404, ModelNotFound),
        (413, RequestTooLarge),
        (422, BadRequest),
        (429, RateLimited),
        (500, BackendFailed),
        (501, EndpointUnsupported),
        (503, BackendLoading),
    ],
)
async def test_each_status_has_its_class(
    backend: Backend, engine: FakeEngine, status: int, error: type[BackendError]
) -> None:
    """Field note 30."""
    engine.will_answer(json_answer({"error": {"message": "no"}}, status))

    with pytest.raises(error):
        await run(backend, call())


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (html(), BackendFailed),
        (sse(chat_chunk("a"), Act.CUT), StreamTruncated),
        (sse(chat_chunk("a"), b'data: {"error":{"message":"x"}}\n\n', DONE), StreamFailed),
        (json_answer({"error": {"message": "x"}}), StreamFailed),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(
    backend: Backend, engine: FakeEngine, script: Answer, error: type[BackendError]
) -> None:
    """Field note 28."""
    engine.will_answer(script)

    with pytest.raises(error):
        await run(backend, call())


async def test_a_cold_model_is_loaded_by_the_shortest_request_there_is(
    backend: Backend, kind: str, engine: FakeEngine
) -> None:
    """Whatever the engine calls unloaded; a paid one is never asked, since that costs money."""
    (model,) = await backend.list_models()
    before = len(engine.posts)
    engine.pages["/api/ps"] = json_answer({"models": []})

    await backend.keep_warm(replace(model, is_loaded=False), within_s=LATE_S)

    asked = engine.posts[before:]
    if kind == "remote":
        assert asked == []
        return
    assert [(each.json()["model"], each.headers["authorization"]) for each in asked] == [
        ("tiny", "Bearer sk-1")
    ]
    assert asked[0].json().get("max_tokens") == (None if kind == "ollama" else 1)


async def test_a_model_of_which_the_engine_says_nothing_is_left_alone(
    backend: Backend, kind: str, engine: FakeEngine
) -> None:
    """It is loaded with its engine, or loading it cannot be told from serving it; Ollama always says."""
    (model,) = await backend.list_models()
    asked = len(engine.requests)
    for known in (None, True):
        await backend.keep_warm(replace(model, is_loaded=known), within_s=LATE_S)

    assert kind == "ollama" or len(engine.requests) == asked


@pytest.mark.parametrize(("status", "error"), [(404, ModelNotFound), (500, BackendFailed)])
async def test_a_model_that_cannot_be_loaded_is_an_error(
    backend: Backend, kind: str, engine: FakeEngine, status: int, error: type[BackendError]
) -> None:
    """For the operator to hear of."""
    (model,) = await backend.list_models()
    engine.pages["/api/ps"] = json_answer({"models": []})
    engine.will_answer(json_answer({"error": {"message": "no"}}, status))

    if kind != "remote":
        with pytest.raises(error):
            await backend.keep_warm(replace(model, is_loaded=False), within_s=LATE_S)


async def test_leaving_closes_the_connection(backend: Backend, engine: FakeEngine) -> None:
    """That is how an engine is told to stop."""
    engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
    async with asyncio.timeout(LATE_S):
        async with backend.open(call()) as reply:
            await take(reply, chat_chunk("a"))
        await engine.connections[-1].closed.wait()

    assert engine.connections[-1].closed_at_s is not None


async def test_an_engine_that_is_gone_is_unreachable(backend: Backend, engine: FakeEngine) -> None:
    """For jobs and for the health check."""
    await engine.stop()

    with pytest.raises(BackendUnreachable):
        await backend.list_models()
    with pytest.raises(BackendUnreachable):
        await run(backend, call())


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (html(), BackendFailed),
        (json_answer({"hello": 1}), BackendFailed),
        (json_answer({}, 401), AuthRejected),
        (json_answer({"error": {"message": "Loading model", "code": 503}}, 503), BackendLoading),
    ],
)
async def test_a_listing_that_is_none_is_an_error(
    backend: Backend, engine: FakeEngine, page: Answer, error: type[BackendError]
) -> None:
    """Not an engine without models: that would empty the catalog; field note 26."""
    engine.pages["/v1/models"] = engine.pages["/api/tags"] = page

    with pytest.raises(error):
        await backend.list_models()


async def test_what_is_only_good_to_know_is_not_needed(backend: Backend, engine: FakeEngine) -> None:
    """An engine whose other pages are closed is still an engine."""
    for path in engine.pages.keys() - {"/v1/models", "/api/tags"}:
        engine.pages[path] = json_answer({}, 404)

    assert [model.model_id for model in await backend.list_models()] == ["tiny"]


_WORDS = (
    "id", "name", "model", "digest", "details", "capabilities", "meta", "owned_by", "type", "state", "n_ctx",
    "max_model_len", "context_length", "model_info", "general.architecture", "llama.context_length", "llama",
    "remote_host", "total_slots", "is_generation", "status", "value", "pricing", "architecture", "tags",
    "config", "endpoints", "paths", "info", "title", "loaded_models", "loaded_instances", "internal_states",
    "data", "models", "object", "list", "vllm", "embedding",
)  # fmt: skip
_PLAIN: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([*_WORDS, "a" * 600])
)
_JSON = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3),
    max_leaves=5,
)
_MODEL = st.fixed_dictionaries(dict.fromkeys(_WORDS[:3], _PLAIN), optional=dict.fromkeys(_WORDS[3:], _JSON))
_PAGE = _JSON | st.sampled_from(["data", "models"]).flatmap(
    lambda name: st.fixed_dictionaries({name: st.lists(_MODEL, max_size=3)})
)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(max_examples=25)
@given(said=st.lists(_PAGE, min_size=3, max_size=12))
def test_whatever_a_server_says_ends_in_models_or_in_an_error_of_ours(
    family: str, said: list[object]
) -> None:
    """Any program may be behind a port; and an offer that no frame can hold would cost all the others."""
    pages = [Page(200, {}, json.dumps(each).encode()) for each in said]
    backend = FAMILIES[family](
        engine_pages.HttpOfPages(*pages), BackendSettings(family), url="http://x:1", name="x"
    )

    async def look() -> tuple[BackendModel, ...]:
        await identify(engine_pages.HttpOfPages(*pages), "http://x:1", timeout_s=LATE_S)
        return await backend.list_models()

    try:
        models = asyncio.run(look())
    except BackendError:
        return

    for model in models:
        offer = {"model_id": model.model_id, "context_window": model.context_window, "backend": "x"}
        counts = {"max_concurrent": model.max_concurrent or 0, "input_per_1m": 0, "output_per_1m": 0}
        msgspec.convert(offer | counts, ModelOffer)
