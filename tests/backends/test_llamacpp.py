"""What llama.cpp's server tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings, Call, EndpointUnsupported
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.llamacpp import LlamaCppBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer


async def test_its_slots_are_the_limit() -> None:
    """More jobs than slots would wait in silence; the context is that of one slot."""
    async with engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine, EngineHttp() as http:
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")
        (model,) = await backend.list_models()

    assert (model.max_concurrent, model.context_window) == (4, 1024)


async def test_without_its_embeddings_flag_the_endpoint_is_unsupported() -> None:
    """It answers 501 and has no other way to tell; another agent may offer it."""
    refusal = {
        "error": {"code": 501, "message": "Start it with `--embeddings`", "type": "not_supported_error"}
    }
    async with engine_pages.FamilyEngine(engine_pages.llamacpp()) as engine, EngineHttp() as http:
        engine.will_answer(json_answer(refusal, 501))
        backend = LlamaCppBackend(http, BackendSettings("llamacpp"), url=engine.url, name="x")

        with pytest.raises(EndpointUnsupported):
            async with backend.open(Call("/v1/embeddings", "tiny", b"{}", False, 5, 5)):
                pass
