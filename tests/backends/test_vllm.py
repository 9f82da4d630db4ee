"""What vLLM tells; the rest is in the contract of all adapters."""

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.vllm import VllmBackend
from tests.fakes import engine_pages


async def test_its_context_is_known_and_its_slots_are_its_own_matter() -> None:
    """It fills its batches by itself: no limit but the operator's."""
    async with engine_pages.FamilyEngine(engine_pages.vllm()) as engine, EngineHttp() as http:
        (model,) = await VllmBackend(http, BackendSettings("vllm"), url=engine.url, name="x").list_models()

    assert (model.context_window, model.max_concurrent) == (1024, None)
