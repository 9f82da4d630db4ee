"""Paid providers; the rest is in the contract of all adapters."""

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.families import FAMILIES
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.remote import RemoteBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer

WRITES = {"/v1/chat/completions", "/v1/completions"}


@pytest.mark.parametrize("priority", [-1_000_000, 0, 100])
async def test_it_comes_after_every_local_engine(priority: int) -> None:
    """Field note 23: whatever the operator's order among its like."""
    async with EngineHttp() as http:
        remote = RemoteBackend(http, BackendSettings("remote", priority=priority), url="https://x", name="x")
        local = FAMILIES["vllm"](http, BackendSettings("vllm", priority=1_000_000), url="http://y", name="y")

    assert remote.priority > local.priority


async def test_among_paid_ones_the_operators_order_counts() -> None:
    """The cheap one first, say."""
    async with EngineHttp() as http:
        first, second = (
            RemoteBackend(http, BackendSettings("remote", priority=each), url="https://x", name="x")
            for each in (1, 2)
        )

    assert first.priority < second.priority


@pytest.mark.parametrize(
    ("said", "served", "is_embedding"),
    [
        ({"type": "text"}, WRITES, False),
        ({"type": "embedding"}, {"/v1/embeddings"}, True),
        ({"architecture": {"output_modalities": ["embeddings"]}}, {"/v1/embeddings"}, True),
        ({"architecture": {"output_modalities": ["text"]}}, WRITES, False),
        ({"type": "model"}, RemoteBackend.endpoints, False),
        ({"type": {}}, RemoteBackend.endpoints, False),
    ],
)  # fmt: skip
async def test_a_model_serves_what_its_kind_can(
    said: dict[str, object], served: set[str], is_embedding: bool
) -> None:
    """Venice says a type, OpenRouter modalities, others nothing."""
    pages = {"/v1/models": json_answer({"data": [{"id": "tiny", **said}]})}
    (model,) = await engine_pages.models_of("remote", pages)

    assert (set(model.endpoints), model.is_embedding) == (served, is_embedding)


@pytest.mark.parametrize("said", [{"type": "image"}, {"architecture": {"output_modalities": ["image"]}}])
async def test_a_model_for_images_is_not_offered(said: dict[str, object]) -> None:
    """Nobody could ask it for anything here."""
    pages = {"/v1/models": json_answer({"data": [{"id": "tiny", **said}]})}

    assert await engine_pages.models_of("remote", pages) == ()


@pytest.mark.parametrize(
    ("said", "features"),
    [
        ({}, None),
        (
            {
                "architecture": {"input_modalities": ["text", "image"]},
                "supported_parameters": ["tools", "seed"],
            },
            frozenset({"tools", "vision"}),
        ),
        (
            {"model_spec": {"capabilities": {"supportsVision": False, "supportsReasoning": True}}},
            frozenset({"thinking"}),
        ),
    ],
)
async def test_what_a_model_can_do_beside_text_is_told(
    said: dict[str, object], features: frozenset[str] | None
) -> None:
    """As OpenRouter lists it, or Venice."""
    pages = {"/v1/models": json_answer({"data": [{"id": "tiny", **said}]})}
    (model,) = await engine_pages.models_of("remote", pages)

    assert model.features == features


async def test_venice_tells_its_context_in_its_own_way() -> None:
    """Below `model_spec`."""
    spec = {"availableContextTokens": 131072, "pricing": {"input": {"usd": 0.15}}}
    listed = [{"id": "tiny", "type": "text", "owned_by": "venice.ai", "model_spec": spec}]
    (model,) = await engine_pages.models_of("remote", {"/v1/models": json_answer({"data": listed})})

    assert model.context_window == 131072
