"""What Jan tells; the rest is in the contract of all adapters."""

from tests.fakes import engine_pages
from tests.fakes.engine import json_answer


async def test_what_it_runs_itself_is_offered_and_nothing_else() -> None:
    """Field note 23: it passes other models on to paid providers."""
    listed = [
        {"id": "far", "object": "model", "owned_by": "openrouter"},
        {"id": "near", "object": "model", "owned_by": "user"},
        {"id": "tiny", "object": "model", "owned_by": "llama.cpp"},
    ]
    pages = {**engine_pages.jan(), "/v1/models": json_answer({"object": "list", "data": listed})}

    models = await engine_pages.models_of("jan", pages)

    assert [(model.model_id, model.is_loaded) for model in models] == [("near", True), ("tiny", True)]


async def test_it_has_anthropics_endpoint_too() -> None:
    """And OpenAI's responses not yet."""
    (model,) = await engine_pages.models_of("jan", engine_pages.jan())

    assert "/v1/messages" in model.endpoints
    assert "/v1/responses" not in model.endpoints
