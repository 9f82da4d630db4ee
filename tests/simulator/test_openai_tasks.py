"""Bodies of OpenAI's requests, good and bad."""

from typing import Any

import pytest

from provider_agent.simulator.openai_tasks import read_chat, read_completion
from provider_agent.simulator.task import BadTask

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "a", "messages": HELLO, **more}


def test_a_chat_is_read_with_all_it_asks_for() -> None:
    """The ordinary case."""
    task = read_chat(
        chat(stream=True, stream_options={"include_usage": True}, max_tokens=5, stop="x", ignore_eos=True)
    )

    assert (task.model, task.prompt) == ("a", "user\nhello")
    assert (task.stream, task.include_usage, task.endless) == (True, True, True)
    assert (task.max_tokens, task.stops) == (5, ("x",))


def test_what_is_not_asked_for_stays_off() -> None:
    """No stream, no usage event, no limit."""
    task = read_chat(chat(stop=None, max_tokens=None, stream_options=None))

    assert (task.stream, task.include_usage, task.endless) == (False, False, False)
    assert (task.max_tokens, task.stops, task.schema, task.tool) == (None, (), None, None)


def test_the_newer_name_of_the_limit_wins() -> None:
    """`max_tokens` is the deprecated one."""
    assert read_chat(chat(max_completion_tokens=3, max_tokens=9)).max_tokens == 3


def test_parts_of_a_content_are_joined_and_images_have_a_place() -> None:
    """Two different images are one text: nobody looks at them."""
    parts = [{"type": "text", "text": "what is "}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    task = read_chat({"model": "a", "messages": [{"role": "user", "content": parts}, {"role": "assistant"}]})

    assert task.prompt == "user\nwhat is  [image_url]\nassistant\n"


FORMATS = [
    ({"type": "text"}, None),
    ({"type": "json_object"}, {}),
    ({"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}, {"type": "array"}),
    ({"type": "json_schema"}, {}),
]


@pytest.mark.parametrize(("wanted", "schema"), FORMATS)
def test_a_response_format_is_read_as_a_schema(wanted: dict[str, Any], schema: dict[str, Any] | None) -> None:
    """Prose has none, any object has an empty one."""
    assert read_chat(chat(response_format=wanted)).schema == schema


CHOICES = [
    (None, None),
    ("auto", None),
    ("none", None),
    ("required", "weather"),
    ({"type": "function", "function": {"name": "clock"}}, "clock"),
]


@pytest.mark.parametrize(("choice", "name"), CHOICES)
def test_a_tool_is_called_only_if_it_must_be(choice: Any, name: str | None) -> None:
    """The named one, or the first of those that are offered."""
    tool = read_chat(chat(tools=[WEATHER, CLOCK], tool_choice=choice)).tool

    assert (tool and tool.name) == name


PROMPTS = [
    ("hello", "hello"),
    (["hello", "again"], "hello"),
    ([1, 2], "1 2"),
    ([[1, 2], [3]], "1 2"),
    ([], ""),
]


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS)
def test_a_completion_takes_texts_and_token_numbers(prompt: Any, expected: str) -> None:
    """Of several prompts the first is answered."""
    assert read_completion({"model": "a", "prompt": prompt}).prompt == expected


BAD = [
    {},
    {"messages": []},
    {"messages": "hello"},
    {"messages": ["hello"]},
    {"messages": [{"content": "hello"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": ["x"]}]},
    {"messages": HELLO, "max_tokens": 0},
    {"messages": HELLO, "max_tokens": "5"},
    {"messages": HELLO, "max_completion_tokens": True},
    {"messages": HELLO, "stop": 5},
    {"messages": HELLO, "stop": [5]},
    {"messages": HELLO, "tool_choice": {"function": {"name": "x"}}},
    {"messages": HELLO, "tool_choice": {"function": 5}},
    {"messages": HELLO, "tools": 5},
    {"messages": HELLO, "tools": [5]},
    {"messages": HELLO, "tools": [{"function": None}]},
    {"messages": HELLO, "tools": [{"function": {"name": "f", "parameters": 5}}]},
]


@pytest.mark.parametrize("body", BAD)
def test_a_bad_chat_is_refused(body: dict[str, Any]) -> None:
    """With a sentence, not with a traceback."""
    with pytest.raises(BadTask, match=r"\w+ \w+"):
        read_chat(body)


def test_a_completion_without_a_prompt_is_refused() -> None:
    """There is nothing to answer."""
    with pytest.raises(BadTask, match="prompt is required"):
        read_completion({"model": "a"})


@pytest.mark.parametrize("prompt", [5, {}, [{}], [["x"]], [1, "x"]])
def test_a_completion_with_an_odd_prompt_is_refused(prompt: Any) -> None:
    """As engines do, with a sentence."""
    with pytest.raises(BadTask, match="prompt must be"):
        read_completion({"model": "a", "prompt": prompt})
