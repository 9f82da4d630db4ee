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
    assert model.is_loaded


async def test_it_serves_what_its_description_has() -> None:
    """A model for embeddings has no chat, one that ranks has nothing else."""
    (writes,) = await engine_pages.models_of("vllm", engine_pages.vllm())
    (embeds,) = await engine_pages.models_of("vllm", engine_pages.vllm("/v1/embeddings", "/pooling"))
    (ranks,) = await engine_pages.models_of("vllm", engine_pages.vllm("/v1/rerank", "/score"))

    assert writes.endpoints == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
    }
    assert (set(embeds.endpoints), embeds.is_embedding) == ({"/v1/embeddings"}, True)
    assert (set(ranks.endpoints), ranks.is_embedding) == ({"/v1/rerank"}, False)


async def test_one_that_does_not_describe_itself_has_the_usual_endpoints() -> None:
    """`--disable-fastapi-docs`."""
    pages = {"/v1/models": engine_pages.vllm()["/v1/models"]}
    (model,) = await engine_pages.models_of("vllm", pages)

    assert model.endpoints == VllmBackend.endpoints
