"""What Ollama tells of its models."""

import pytest

from provider_agent.simulator.dialects.base import NoSuchModel
from provider_agent.simulator.dialects.ollama import loaded, show, tags
from tests.simulator.dialects.test_base import view


def test_all_on_disk_is_listed() -> None:
    """Each with a digest of its own."""
    listed = tags(view("a:latest", "b:3b"), {})["models"]

    assert [model["name"] for model in listed] == ["a:latest", "b:3b"]
    assert len({model["digest"] for model in listed}) == 2


def test_only_what_is_in_memory_is_running() -> None:
    """With the time of its end."""
    (model,) = loaded(view("a:latest"), {})["models"]

    assert (model["name"], model["expires_at"]) == ("a:latest", "2318-01-01T00:00:00Z")
    assert loaded(view("a:latest", load_s=1), {})["models"] == []


def test_details_tell_the_context_window_and_what_a_model_can_do() -> None:
    """An agent looks for both."""
    details = show(view("a:latest"), {"model": "a"})

    assert details["model_info"]["simulated.context_length"] == 2048
    assert details["capabilities"] == ["completion"]


def test_there_are_no_details_of_a_model_that_is_not_there() -> None:
    """404, with its name."""
    with pytest.raises(NoSuchModel):
        show(view("a:latest"), {"model": "b"})
