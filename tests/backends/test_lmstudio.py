"""What LM Studio tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.lmstudio import LmStudioBackend
from tests.fakes import engine_pages


@pytest.mark.parametrize(("kind", "is_embedding"), [("llm", False), ("vlm", False), ("embeddings", True)])
async def test_its_own_listing_tells_which_models_embed(kind: str, is_embedding: bool) -> None:
    """OpenAI's does not."""
    pages = engine_pages.lmstudio(kind=kind)
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        (model,) = await LmStudioBackend(
            http, BackendSettings("lmstudio"), url=engine.url, name="x"
        ).list_models()

    assert (model.is_embedding, model.context_window) == (is_embedding, 1024)
