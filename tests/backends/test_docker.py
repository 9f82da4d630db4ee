"""What Docker Model Runner tells; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.docker import DockerBackend
from provider_agent.backends.http import EngineHttp
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer, models_page


async def test_the_digest_is_asked_for_beside_the_engines() -> None:
    """The base URL ends in `/engines`, where its models have no digest."""
    pages = dict(engine_pages.docker())
    pages["/engines/v1/models"] = pages.pop("/v1/models")
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        url = f"{engine.url}/engines"
        (model,) = await DockerBackend(http, BackendSettings("docker"), url=url, name="x").list_models()

    assert (model.fingerprint, model.context_window) == ("sha256:" + "cd" * 32, 1024)


@pytest.mark.parametrize("running", [True, False])
async def test_what_is_in_memory_is_warm(running: bool) -> None:
    """It loads on demand, and unloads what nobody asks for."""
    (model,) = await engine_pages.models_of("docker", engine_pages.docker(running=running))

    assert model.is_loaded is running


async def test_one_whose_other_pages_are_closed_is_described_by_its_listing() -> None:
    """From 2026 on; a description is not a digest, but tells one quantisation from another."""
    dmr = {"context_window": 2048, "quantization": "Q4_K_M", "parameters": "1B"}
    pages = {"/v1/models": models_page("tiny", owned_by="docker", dmr=dmr), "/models": json_answer({}, 404)}
    (model,) = await engine_pages.models_of("docker", pages)

    assert (model.context_window, model.is_loaded) == (2048, None)
    assert model.fingerprint is not None
