"""Anthropic's API: bodies read, and what is special to its answers."""

import json
from typing import Any

import pytest

from provider_agent.simulator.anthropic import MessagesForm, read_messages
from provider_agent.simulator.forms import Timing
from provider_agent.simulator.task import Answer, BadTask, Task

HELLO = [{"role": "user", "content": "hello"}]
TASK = Task(model="a", prompt="say hello")
ANSWER = Answer(("Hello", " you"), prompt_tokens=2, finish="length")
TIMING = Timing(0, 0)


def events(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Names and data."""
    found = []
    for event in stream.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_request_is_read() -> None:
    """The system's words come first."""
    task = read_messages(
        {
            "model": "a",
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            "max_tokens": 5,
            "stop_sequences": ["x"],
            "stream": True,
        }
    )

    assert (task.prompt, task.max_tokens, task.stops) == ("be brief\nuser\nhello", 5, ("x",))
    assert task.stream


BAD: list[dict[str, Any]] = [
    {"max_tokens": 5},
    {"max_tokens": 5, "messages": []},
    {"max_tokens": 5, "messages": ["hello"]},
    {"messages": HELLO},
    {"messages": HELLO, "max_tokens": 0},
    {"messages": HELLO, "max_tokens": 5, "stop_sequences": 5},
]


@pytest.mark.parametrize("body", BAD)
def test_a_bad_body_is_refused(body: dict[str, Any]) -> None:
    """With a sentence."""
    with pytest.raises(BadTask, match=r"\w+ \w+"):
        read_messages({"model": "a", **body})


def test_a_stream_has_this_apis_events_in_their_order() -> None:
    """Each says its name twice."""
    form = MessagesForm(TASK, "1")
    stream = form.begin() + form.piece("Hello") + form.piece(" you") + form.end(ANSWER, TIMING, marked=True)
    told = events(stream)

    assert [name for name, _ in told] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(data["type"] == name for name, data in told)


def test_usage_is_split_between_the_first_event_and_the_last_but_one() -> None:
    """Field note 29: a counter must look at both."""
    form = MessagesForm(TASK, "1")
    (_, start), *_ = events(form.begin())
    _, (_, delta), _ = events(form.end(ANSWER, TIMING, marked=True))

    assert start["message"]["usage"]["input_tokens"] == 2
    assert delta["usage"] == {"output_tokens": 2}
    assert delta["delta"]["stop_reason"] == "max_tokens"


def test_a_whole_message_has_all_of_it() -> None:
    """Text, reason and usage."""
    body = json.loads(MessagesForm(TASK, "1").whole(ANSWER, TIMING))

    assert body["content"] == [{"type": "text", "text": "Hello you"}]
    assert (body["stop_reason"], body["usage"]) == ("max_tokens", {"input_tokens": 2, "output_tokens": 2})


def test_an_error_has_its_own_event() -> None:
    """And a refusal the same body."""
    form = MessagesForm(TASK, "1")
    ((name, data),) = events(form.error("it broke"))

    assert (name, data["error"]["message"]) == ("error", "it broke")
    assert json.loads(form.refusal(429, "slowly"))["error"]["type"] == "rate_limit_error"
