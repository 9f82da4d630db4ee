"""OpenAI's responses: bodies read, and what is special to their answers."""

import json
from typing import Any

import pytest

from provider_agent.simulator.forms import Timing
from provider_agent.simulator.responses import ResponsesForm, read_response
from provider_agent.simulator.style import PLAIN
from provider_agent.simulator.task import Answer, BadTask, Task
from tests.simulator.test_anthropic import events

ANSWER = Answer(("Hello", " you"), prompt_tokens=2, finish="stop")
CUT = Answer(("Hello", " you"), prompt_tokens=2, finish="length")
TIMING = Timing(0, 0)


def form() -> ResponsesForm:
    return ResponsesForm(Task(model="a", prompt="hello"), "1", 0, PLAIN)


def test_a_text_is_enough() -> None:
    """The shortest request."""
    assert read_response({"model": "a", "input": "hello"}).prompt == "hello"


def test_messages_calls_and_their_results_are_read() -> None:
    """As agents send them back."""
    task = read_response(
        {
            "model": "a",
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                {"type": "function_call_output", "call_id": "1", "output": "rain"},
            ],
            "max_output_tokens": 5,
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "array"}}},
        }
    )

    assert task.prompt == "be brief\nuser\nhello\nfunction_call_output\nrain"
    assert (task.max_tokens, task.schema) == (5, {"type": "array"})


@pytest.mark.parametrize(
    "asked", [{}, {"input": []}, {"input": ["x"]}, {"input": "x", "max_output_tokens": 0}]
)
def test_a_bad_body_is_refused(asked: dict[str, Any]) -> None:
    """With a sentence."""
    with pytest.raises(BadTask, match=r"\w+ \w+"):
        read_response({"model": "a", **asked})


def test_events_are_numbered_and_say_the_text() -> None:
    """Without a gap, and without `[DONE]`."""
    answer = form()
    stream = answer.begin() + answer.piece("Hello") + answer.piece(" you")
    told = events(stream + answer.end(ANSWER, TIMING, marked=True))

    assert [data["sequence_number"] for _, data in told] == list(range(len(told)))
    assert [data["delta"] for name, data in told if name == "response.output_text.delta"] == ["Hello", " you"]
    assert told[0][0] == "response.created"
    assert told[-1][0] == "response.completed"
    assert told[-1][1]["response"]["usage"] == {"input_tokens": 2, "output_tokens": 2, "total_tokens": 4}


def test_one_that_was_cut_is_incomplete() -> None:
    """It says why."""
    told = events(form().end(CUT, TIMING, marked=True))
    whole = json.loads(form().whole(CUT, TIMING))

    assert told[-1][0] == "response.incomplete"
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_whole_response_has_its_text() -> None:
    """In an item, in a part."""
    whole = json.loads(form().whole(ANSWER, TIMING))

    assert whole["output"][0]["content"][0]["text"] == "Hello you"


def test_an_error_is_an_event_of_this_api() -> None:
    """A refusal is OpenAI's."""
    ((name, data),) = events(form().error("it broke"))

    assert (name, data["message"]) == ("error", "it broke")
    assert json.loads(form().refusal(404, "no"))["error"]["type"] == "not_found_error"
