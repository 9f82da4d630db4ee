"""What TGI tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.families import recognise
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer


async def test_its_info_tells_context_slots_and_revision() -> None:
    """OpenAI's listing has none of them; more jobs than that are refused."""
    (model,) = await engine_pages.models_of("tgi", engine_pages.tgi())

    assert (model.context_window, model.max_concurrent, model.is_loaded) == (1024, 128, True)
    assert model.fingerprint is not None
    assert model.endpoints == {"/v1/chat/completions", "/v1/completions"}


@pytest.mark.parametrize("router", ["text-generation-router", None])
def test_an_older_one_is_recognised_too(router: str | None) -> None:
    """It did not name its router yet."""
    info = {"model_id": "tiny", "max_concurrent_requests": 128, "max_total_tokens": 2048, "router": router}
    family = recognise(engine_pages.answers_of({**engine_pages.tgi(), "/info": json_answer(info)}))

    assert family is not None
    assert family.kind == "tgi"


def test_its_sister_for_embeddings_is_not_taken_for_it() -> None:
    """Text Embeddings Inference has the same page, with other numbers."""
    info = {"model_id": "tiny", "model_type": {"embedding": {}}, "max_concurrent_requests": 512}
    family = recognise(engine_pages.answers_of({**engine_pages.tgi(), "/info": json_answer(info)}))

    assert family is not None
    assert family.kind == "openai"
