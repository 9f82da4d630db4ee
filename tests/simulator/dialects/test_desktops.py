"""What LM Studio, Jan, LocalAI and Docker Model Runner tell of their models."""

from provider_agent.simulator.dialects.desktops import DOCKER, JAN, LMSTUDIO, LOCALAI
from tests.simulator.dialects.test_base import view

COLD = view("a", load_s=1)


def test_lmstudio_tells_what_is_loaded_and_its_slots() -> None:
    """In its older and in its newer listing."""
    older, newer = LMSTUDIO.pages["/api/v0/models"], LMSTUDIO.pages["/api/v1/models"]

    assert [older(each, {})["data"][0]["state"] for each in (view(), COLD)] == ["loaded", "not-loaded"]
    (instance,) = newer(view(), {})["models"][0]["loaded_instances"]
    assert instance["config"] == {"context_length": 2048, "parallel": 3}
    assert newer(COLD, {})["models"][0]["loaded_instances"] == []


def test_localai_tells_what_its_models_can_do() -> None:
    """And which of them are loaded."""
    (told,) = LOCALAI.pages["/v1/models/capabilities"](view(), {})["data"]

    assert (told["context_size"], "rerank" in told["capabilities"]) == (2048, True)
    assert LOCALAI.pages["/system"](view(), {})["loaded_models"] == [{"id": "a"}]
    assert LOCALAI.pages["/system"](COLD, {})["loaded_models"] == []


def test_docker_tells_what_is_stored_and_what_runs() -> None:
    """Beside its API, not below it."""
    (stored,) = DOCKER.pages["/models"](view(), {})
    (running,) = DOCKER.pages["/engines/ps"](view(), {})

    assert (stored["tags"], stored["config"]["context_size"]) == (["a"], 2048)
    assert (running["model_name"], running["loading"]) == ("a", False)
    assert DOCKER.pages["/engines/ps"](COLD, {}) == []


def test_jan_names_itself() -> None:
    """In its description, which needs no key."""
    assert JAN.pages["/openapi.json"](view(), {})["info"]["title"].startswith("Jan API")
    assert JAN.pages["/v1/models/available"](view(), {})["data"][0]["id"] == "a"
