"""What SGLang tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.sglang import SglangBackend
from tests.fakes import engine_pages


@pytest.mark.parametrize("is_generation", [True, False])
async def test_a_model_that_does_not_generate_embeds(is_generation: bool) -> None:
    """It serves one model, and says which of both."""
    pages = engine_pages.sglang(is_generation=is_generation)
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        (model,) = await SglangBackend(
            http, BackendSettings("sglang"), url=engine.url, name="x"
        ).list_models()

    assert (model.is_embedding, model.context_window) == (not is_generation, 1024)
