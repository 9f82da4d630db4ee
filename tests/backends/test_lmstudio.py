"""What LM Studio tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.lmstudio import LmStudioBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer


@pytest.mark.parametrize(("kind", "is_embedding"), [("llm", False), ("vlm", False), ("embeddings", True)])
async def test_its_own_listing_tells_which_models_embed(kind: str, is_embedding: bool) -> None:
    """OpenAI's does not."""
    pages = engine_pages.lmstudio(kind=kind)
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        (model,) = await LmStudioBackend(
            http, BackendSettings("lmstudio"), url=engine.url, name="x"
        ).list_models()

    assert (model.is_embedding, model.context_window) == (is_embedding, 1024)


@pytest.mark.parametrize(("state", "is_loaded"), [("loaded", True), ("not-loaded", False)])
async def test_its_state_tells_warm_from_cold(state: str, is_loaded: bool) -> None:
    """It loads on demand."""
    (model,) = await engine_pages.models_of("lmstudio", engine_pages.lmstudio(state=state))

    assert model.is_loaded is is_loaded


async def test_a_loaded_model_has_the_slots_and_context_that_it_was_loaded_with() -> None:
    """From 0.4 on it tells; one before that ran one job at a time, unless the operator knows better."""
    (newer,) = await engine_pages.models_of("lmstudio", engine_pages.lmstudio(parallel=4))
    (older,) = await engine_pages.models_of("lmstudio", engine_pages.lmstudio())
    (said,) = await engine_pages.models_of("lmstudio", engine_pages.lmstudio(), max_concurrent=2)

    assert (newer.max_concurrent, newer.context_window) == (4, 512)
    assert (older.max_concurrent, said.max_concurrent) == (1, None)


@pytest.mark.parametrize(
    ("kind", "capabilities", "features"),
    [
        ("llm", ["tool_use"], {"tools"}),
        ("vlm", [], {"vision"}),
        ("llm", None, set()),
    ],
)
async def test_what_a_model_can_do_beside_text_is_told(
    kind: str, capabilities: list[str] | None, features: set[str]
) -> None:
    """It sees by its type, and calls functions by a word of its own."""
    details = {"id": "tiny", "type": kind, "state": "loaded", "capabilities": capabilities}
    pages = {**engine_pages.lmstudio(), "/api/v0/models": json_answer({"data": [details]})}
    (model,) = await engine_pages.models_of("lmstudio", pages)

    assert model.features == frozenset(features)


async def test_another_quantisation_is_another_model() -> None:
    """Of the same name."""
    pages = engine_pages.lmstudio()
    (one,) = await engine_pages.models_of("lmstudio", pages)
    details = {"id": "tiny", "type": "llm", "state": "loaded", "quantization": "Q8_0"}
    other = {**pages, "/api/v0/models": json_answer({"data": [details]})}
    (two,) = await engine_pages.models_of("lmstudio", other)

    assert None not in (one.fingerprint, two.fingerprint)
    assert one.fingerprint != two.fingerprint
