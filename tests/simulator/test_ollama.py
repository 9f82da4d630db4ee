"""Ollama's own API: bodies read, and what is special to its answers."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from provider_agent.simulator.forms import Timing
from provider_agent.simulator.ollama import (
    OllamaForm,
    keep_s,
    normal_name,
    read_chat,
    read_generate,
)
from provider_agent.simulator.task import Answer, BadTask, Task

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HELLO = [{"role": "user", "content": "hello"}]


def test_streaming_is_the_default() -> None:
    """Only an explicit false turns it off."""
    assert read_chat({"model": "a", "messages": HELLO}).stream
    assert not read_chat({"model": "a", "messages": HELLO, "stream": False}).stream


def test_options_are_read() -> None:
    """A negative limit is none."""
    task = read_generate(
        {
            "model": "a",
            "system": "be brief",
            "prompt": "hello",
            "format": "json",
            "options": {"num_predict": 5, "stop": ["x"], "seed": 7},
        }
    )

    assert (task.prompt, task.max_tokens, task.stops, task.seed) == ("be brief\nhello", 5, ("x",), "7")
    assert task.schema == {}
    assert read_generate({"model": "a", "prompt": "x", "options": {"num_predict": -1}}).max_tokens is None


def test_a_format_may_be_a_schema() -> None:
    """As in structured outputs."""
    assert read_generate({"model": "a", "prompt": "x", "format": {"type": "array"}}).schema == {
        "type": "array"
    }


BAD: list[dict[str, Any]] = [
    {"messages": HELLO},
    {"model": "a", "messages": "hello"},
    {"model": "a", "messages": ["hello"]},
    {"model": "a", "messages": HELLO, "options": "fast"},
    {"model": "a", "messages": HELLO, "options": {"num_predict": "5"}},
    {"model": "a", "messages": HELLO, "options": {"stop": 5}},
    {"model": "a", "messages": HELLO, "format": "yaml"},
]


@pytest.mark.parametrize("body", BAD)
def test_a_bad_body_is_refused(body: dict[str, Any]) -> None:
    """With a sentence, not with a traceback."""
    with pytest.raises(BadTask, match=r"\w+ \w+"):
        read_chat(body)


@pytest.mark.parametrize("body", [{"prompt": 5}, {"system": ["x"], "prompt": "a"}])
def test_what_to_generate_from_must_be_text(body: dict[str, Any]) -> None:
    """Both parts of it."""
    with pytest.raises(BadTask, match="system and prompt must be texts"):
        read_generate({"model": "a", **body})


def test_the_last_line_has_the_counts_and_nanoseconds() -> None:
    """Zeros are left out, as Go does."""
    form = OllamaForm(Task(model="a", prompt="hello"), "chat", NOW)
    last = json.loads(form.end(Answer((), 3, "stop"), Timing(5, 5), marked=True))

    assert (last["done"], last["done_reason"], last["prompt_eval_count"]) == (True, "stop", 3)
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["total_duration"] == 5
    assert "eval_count" not in last
    assert "eval_duration" not in last


def test_an_error_is_a_plain_text() -> None:
    """Unlike OpenAI's object."""
    form = OllamaForm(Task(model="a", prompt="hello"), "chat", NOW)

    assert json.loads(form.refusal(500, "it broke")) == {"error": "it broke"}


def test_a_request_without_a_prompt_only_loads_or_unloads() -> None:
    """The reason says which."""
    form = OllamaForm(Task(model="a", prompt=""), "generate", NOW)

    assert json.loads(form.nothing_asked(unload=False))["done_reason"] == "load"
    assert json.loads(form.nothing_asked(unload=True))["done_reason"] == "unload"


def test_a_name_without_a_tag_is_the_latest() -> None:
    """Listings show `name:tag`."""
    assert normal_name("a") == "a:latest"
    assert normal_name("b:3b") == "b:3b"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (300, 300.0),
        (0, 0.0),
        (-1, math.inf),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("-1s", math.inf),
        (None, None),
    ],
)
def test_how_long_a_model_stays_is_read(said: object, seconds: float | None) -> None:
    """A number of seconds or a duration of Go's; a negative one is for good."""
    assert keep_s({"keep_alive": said}) == seconds


@pytest.mark.parametrize("said", ["300", "soon", "", [], True])
def test_a_duration_needs_a_unit(said: object) -> None:
    """As in the original, which refuses a bare number in quotes."""
    with pytest.raises(BadTask):
        keep_s({"keep_alive": said})
