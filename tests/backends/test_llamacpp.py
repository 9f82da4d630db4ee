"""What llama.cpp's server tells; the rest is in the contract of all adapters."""

from typing import Any

import pytest

from provider_agent.backends.base import BackendSettings, BackendUnreachable, Call, EndpointUnsupported
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.llamacpp import LlamaCppBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer

EMBEDDINGS = "/v1/embeddings"


async def test_its_slots_are_the_limit() -> None:
    """More jobs than slots would wait in silence; the context is that of one slot."""
    async with engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine, EngineHttp() as http:
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        (model,) = await backend.list_models()

    assert (model.max_concurrent, model.context_window) == (4, 1024)


async def test_what_a_model_can_do_beside_text_is_told() -> None:
    """By its chat template, and its projector; older builds tell neither."""
    said = {"chat_template_caps": {"supports_tools": True}, "modalities": {"vision": True, "audio": False}}
    told = [
        (await engine_pages.models_of("llamacpp", {**engine_pages.llamacpp(), "/props": json_answer(props)}))[
            0
        ]
        for props in (said, {"modalities": 7})
    ]

    assert [model.features for model in told] == [frozenset({"tools", "vision"}), None]


@pytest.mark.parametrize(
    ("embeds", "chats", "served"),
    [
        (False, True, {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}),
        (True, False, {"/v1/embeddings"}),
    ],
)
async def test_its_flags_are_found_out_by_asking_for_nothing(
    embeds: bool, chats: bool, served: set[str]
) -> None:
    """What is advertised is what executes; only a model without chat is one for embeddings."""
    pages = engine_pages.llamacpp(embeds=embeds, chats=chats)
    (model,) = await engine_pages.models_of("llamacpp", pages)

    assert model.endpoints == served
    assert model.is_embedding is not chats


async def test_its_flags_are_asked_once_for_each_server_process() -> None:
    """Asking keeps a model awake that would be put to sleep; a new server may have other flags."""
    async with engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine, EngineHttp() as http:
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        await backend.list_models()
        (before,) = await backend.list_models()
        assert len(engine.posts) == 3
        engine.pages.update(engine_pages.llamacpp(embeds=True))
        engine.pages["/props"] = json_answer({"total_slots": 4, "media_marker": "<__media_another__>"})
        (after,) = await backend.list_models()

    assert len(engine.posts) == 6
    assert after.endpoints - before.endpoints == {"/v1/embeddings"}


class HttpThatHangs(EngineHttp):
    """Gets no answer in time from these paths."""

    def __init__(self, *paths: str) -> None:
        super().__init__()
        self.paths = set(paths)
        self.asked: list[str] = []

    async def ask(self, base_url: str, path: str, **options: Any) -> Page:
        self.asked.append(path)
        if path in self.paths:
            raise BackendUnreachable("the engine does not answer in time")
        return await super().ask(base_url, path, **options)


async def test_flags_that_it_did_not_tell_in_time_are_asked_again() -> None:
    """A busy moment must not decide what a server is good for until it is started anew."""
    async with (
        engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine,
        HttpThatHangs(EMBEDDINGS) as http,
    ):
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        (before,) = await backend.list_models()
        http.paths.clear()
        (after,) = await backend.list_models()

    assert before.endpoints - after.endpoints == {EMBEDDINGS}


@pytest.mark.parametrize("before", [engine_pages.llamacpp(), engine_pages.llamacpp_router()])
async def test_one_that_claims_thousands_of_loaded_models_is_not_asked_about_all_at_once(
    before: engine_pages.Pages,
) -> None:
    """Each question is a connection; all the models are offered."""
    listed = [{"id": f"m{number}", "owned_by": "llamacpp"} for number in range(3000)]
    pages = dict(before) | {"/v1/models": json_answer({"data": listed})}
    async with engine_pages.FamilyEngine(pages) as engine, HttpThatHangs() as http:
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        models = await backend.list_models()

    assert len(models) == 3000
    assert len(http.asked) < 100


async def test_a_router_has_models_that_are_loaded_and_others() -> None:
    """Those that are not are asked nothing: that would load them."""
    async with engine_pages.FamilyEngine(engine_pages.llamacpp_router()) as engine, EngineHttp() as http:
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        other, tiny = await backend.list_models()

    assert (other.model_id, other.is_loaded, other.context_window) == ("other", False, None)
    assert (tiny.model_id, tiny.is_loaded, tiny.context_window) == ("tiny", True, 512)
    assert not any("other" in request.path for request in engine.requests)
    assert "/props?model=tiny&autoload=false" in [request.path for request in engine.requests]


async def test_another_template_is_another_model() -> None:
    """Of the same file."""
    pages = dict(engine_pages.llamacpp())
    (one,) = await engine_pages.models_of("llamacpp", pages)
    pages["/props"] = json_answer({"total_slots": 4, "chat_template": "{{ other }}"})
    (two,) = await engine_pages.models_of("llamacpp", pages)

    assert None not in (one.fingerprint, two.fingerprint)
    assert one.fingerprint != two.fingerprint


async def test_without_its_embeddings_flag_the_endpoint_is_unsupported() -> None:
    """It answers 501 and has no other way to tell; another agent may offer it."""
    refusal = {
        "error": {"code": 501, "message": "Start it with `--embeddings`", "type": "not_supported_error"}
    }
    async with engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine, EngineHttp() as http:
        engine.pages["/v1/embeddings"] = json_answer(refusal, 501)
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")

        with pytest.raises(EndpointUnsupported):
            async with backend.open(Call("/v1/embeddings", "tiny", b"{}", False, 5, 5)):
                pass
