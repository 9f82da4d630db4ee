"""What SGLang tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.sglang import SglangBackend
from tests.fakes import engine_pages
from tests.fakes.engine import Act, json_answer


@pytest.mark.parametrize("is_generation", [True, False])
async def test_a_model_that_does_not_generate_embeds(is_generation: bool) -> None:
    """It serves one model, and says which of both."""
    pages = engine_pages.sglang(is_generation=is_generation)
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        (model,) = await SglangBackend(
            http, BackendSettings("sglang"), url=engine.url, name="x"
        ).list_models()

    assert (model.is_embedding, model.context_window) == (not is_generation, 1024)
    assert model.is_loaded


async def test_its_slots_are_those_of_all_its_schedulers() -> None:
    """Two of 16."""
    (model,) = await engine_pages.models_of("sglang", engine_pages.sglang())

    assert model.max_concurrent == 32


async def test_a_newer_one_has_other_paths() -> None:
    """The `get_` is about to go."""
    pages = dict(engine_pages.sglang(is_generation=False))
    pages["/model_info"] = pages.pop("/get_model_info")
    pages["/server_info"] = pages.pop("/get_server_info")
    (model,) = await engine_pages.models_of("sglang", pages)

    assert (model.is_embedding, model.max_concurrent) == (True, 32)


class HastySglang(SglangBackend):
    """Waits for nothing."""

    patience_s = 0.05


async def test_one_that_keeps_a_page_back_is_listed_all_the_same() -> None:
    """A busy scheduler answers no questions; the engine is not dead."""
    silent = json_answer({}, before_headers=Act.SILENCE)
    pages = {**engine_pages.sglang(), "/get_server_info": silent, "/openapi.json": silent}
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        backend = HastySglang(http, BackendSettings("sglang"), url=engine.url, name="x")
        (model,) = await backend.list_models()

    assert (model.model_id, model.max_concurrent) == ("tiny", None)


async def test_a_busy_one_has_no_fewer_slots() -> None:
    """Its page may not come in time; the catalog must not flap."""
    async with engine_pages.FamilyEngine(engine_pages.sglang()) as engine, EngineHttp() as http:
        backend = SglangBackend(http, BackendSettings("sglang"), url=engine.url, name="x")
        first = await backend.list_models()
        engine.pages["/get_server_info"] = json_answer({}, 503)

        assert await backend.list_models() == first
