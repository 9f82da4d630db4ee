"""What LocalAI tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.localai import LocalAIBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer

CHATS = {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"}


@pytest.mark.parametrize(
    ("capabilities", "served", "is_embedding"),
    [
        (("chat",), CHATS, False),
        (("completion",), {"/v1/completions"}, False),
        (("embeddings",), {"/v1/embeddings", "/api/embed"}, True),
        (("rerank",), {"/v1/rerank"}, False),
    ],
)  # fmt: skip
async def test_a_model_serves_what_it_can_do(
    capabilities: tuple[str, ...], served: set[str], is_embedding: bool
) -> None:
    """It tells that of each."""
    (model,) = await engine_pages.models_of("localai", engine_pages.localai(*capabilities))

    assert (set(model.endpoints), model.is_embedding) == (served, is_embedding)


async def test_a_model_for_images_is_not_offered() -> None:
    """Nobody could ask it for anything here."""
    assert await engine_pages.models_of("localai", engine_pages.localai("image")) == ()


@pytest.mark.parametrize("loaded", [True, False])
async def test_what_is_in_memory_is_warm(loaded: bool) -> None:
    """It loads on demand."""
    (model,) = await engine_pages.models_of("localai", engine_pages.localai(loaded=loaded))

    assert (model.is_loaded, model.context_window) == (loaded, 1024)


async def test_an_older_one_tells_less() -> None:
    """Capabilities came late: then the usual endpoints are assumed."""
    pages = {**engine_pages.localai(), "/v1/models/capabilities": json_answer({}, 404)}
    (model,) = await engine_pages.models_of("localai", pages)

    assert (model.endpoints, model.context_window) == (LocalAIBackend.endpoints, None)
