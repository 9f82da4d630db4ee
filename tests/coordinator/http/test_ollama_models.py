"""Ollama's clients are told what is known of a model, and nothing that is not."""

import pytest

from provider_agent.coordinator.http.ollama_models import running, shown, tags
from provider_agent.protocol.frames import ModelOffer
from tests.fakes.agents import CHAT, offer

DIGEST = "0123456789abcdef" * 4
NATIVE = (CHAT, "/api/chat", "/api/embed", "/api/generate")


def native(**more: object) -> ModelOffer:
    return offer("m", endpoints=NATIVE, **more)  # type: ignore[arg-type]


def listed(*offers: ModelOffer) -> dict[str, object]:
    """The one model that `/api/tags` lists."""
    models = tags({"m": offers})["models"]
    assert isinstance(models, list)
    (model,) = models
    assert isinstance(model, dict)
    return model


def test_a_model_is_listed_with_its_digest() -> None:
    """Its fingerprint, which for Ollama's models is just that; what nobody knows is empty."""
    assert listed(native(fingerprint=f"sha256:{DIGEST}", window=4096)) == {
        "name": "m",
        "model": "m",
        "modified_at": "0001-01-01T00:00:00Z",
        "size": 0,
        "digest": DIGEST,
        "details": {
            "parent_model": "",
            "format": "",
            "family": "",
            "families": None,
            "parameter_size": "",
            "quantization_level": "",
            "context_length": 4096,
        },
        "capabilities": ["completion"],
    }


@pytest.mark.parametrize("fingerprints", [(None,), ("odd",), (f"sha256:{DIGEST}", f"sha256:{DIGEST[::-1]}")])
def test_a_model_without_one_digest_gets_one_of_what_is_known(fingerprints: tuple[str | None, ...]) -> None:
    """Clients cut it to twelve characters without looking, and take another one for another model."""
    digest = listed(*(native(fingerprint=each) for each in fingerprints))["digest"]

    assert isinstance(digest, str)
    assert (len(digest), digest == DIGEST) == (64, False)
    assert digest != listed(native(fingerprint="other"))["digest"]


def test_the_smallest_context_counts() -> None:
    """And only of those who serve it at Ollama's endpoints."""
    offers = (native(window=8192), native(window=4096), offer("m", endpoints=(CHAT,), window=1024))

    assert shown(offers)["model_info"] == {
        "general.architecture": "unknown",
        "unknown.context_length": 4096,
    }


def test_a_context_that_nobody_tells_is_left_out() -> None:
    """No number is better than a wrong one."""
    assert shown((native(),))["model_info"] == {"general.architecture": "unknown"}


def test_a_model_that_only_embeds_is_shown_as_such() -> None:
    """Others can complete, too."""
    assert shown((offer("m", endpoints=("/v1/embeddings", "/api/embed")),))["capabilities"] == ["embedding"]


def test_what_a_model_can_do_beside_text_is_shown() -> None:
    """Clients offer tools and pictures by that; only what each agent that tells of it has is promised."""
    offers = (native(features=("tools", "vision")), native(features=("tools",)), native())

    assert shown(offers)["capabilities"] == ["completion", "tools"]


@pytest.mark.parametrize(("warm", "count"), [(None, 0), (False, 0), (True, 1)])
def test_a_model_runs_if_an_agent_says_so(warm: bool | None, count: int) -> None:
    """Silence is no yes."""
    models = running({"m": (native(), native(warm=warm, window=4096))})["models"]

    assert isinstance(models, list)
    assert len(models) == count
    assert all(model["context_length"] == 4096 for model in models)


def test_models_of_other_endpoints_are_not_listed() -> None:
    """A client that chose one would only be refused."""
    models = {"chat": (offer("chat", warm=True),), "m": (native(),)}

    assert [model["name"] for model in tags(models)["models"]] == ["m"]  # type: ignore[attr-defined]
    assert running(models) == {"models": []}
