"""One suite for every form of answer: a stream says the same as a whole body, and a cut one shows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from provider_agent.simulator.forms import BodyForm, Form, Timing, to_json
from provider_agent.simulator.ollama import OllamaForm
from provider_agent.simulator.openai import ChatForm, CompletionForm
from provider_agent.simulator.style import text_error
from provider_agent.simulator.task import Answer, Task

TASK = Task(model="a", prompt="hello", stream=True, include_usage=True)
ANSWER = Answer(("Say", ' "', "grüß", " dich", '"', "\n"), prompt_tokens=3, finish="length")
TIMING = Timing(first_token_ns=5, total_ns=9)
NOW = datetime(2026, 1, 2, tzinfo=UTC)

MakeForm = Callable[[], Form]
FORMS: list[MakeForm] = [
    lambda: ChatForm(TASK, "1", 1_700_000_000),
    lambda: CompletionForm(TASK, "1", 1_700_000_000),
    lambda: OllamaForm(TASK, "chat", NOW),
    lambda: OllamaForm(TASK, "generate", NOW),
]


def events(stream: bytes) -> list[dict[str, Any]]:
    """The JSON objects of an SSE or NDJSON body, without `[DONE]`."""
    lines = (line.removeprefix(b"data: ") for line in stream.splitlines() if line)
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def said(event: dict[str, Any]) -> str:
    """The text of one event of any form."""
    for choice in event.get("choices", []):
        return str(choice.get("delta", choice.get("message", choice)).get("content", choice.get("text", "")))
    return str(event.get("message", {}).get("content", event.get("response", "")))


def streamed(form: Form, *, marked: bool = True) -> bytes:
    pieces = b"".join(map(form.piece, ANSWER.pieces))
    return form.begin() + pieces + form.end(ANSWER, TIMING, marked=marked)


@pytest.mark.parametrize("make", FORMS)
def test_a_stream_says_what_the_whole_body_says(make: MakeForm) -> None:
    """Character by character, quotes, umlauts and line breaks too."""
    form = make()

    assert "".join(map(said, events(streamed(form)))) == ANSWER.text
    assert said(json.loads(form.whole(ANSWER, TIMING))) == ANSWER.text


@pytest.mark.parametrize("make", FORMS)
def test_each_token_is_one_event(make: MakeForm) -> None:
    """As engines send them."""
    form = make()

    assert [len(events(form.piece(token))) for token in ANSWER.pieces] == [1] * len(ANSWER.pieces)


@pytest.mark.parametrize("make", FORMS)
def test_only_a_marked_stream_has_the_end_mark(make: MakeForm) -> None:
    """What comes without is not whole."""
    marked, cut = streamed(make()), streamed(make(), marked=False)

    assert marked.startswith(cut)
    assert b"[DONE]" in marked[len(cut) :] or b'"done":true' in marked[len(cut) :]


@pytest.mark.parametrize("make", FORMS)
def test_an_error_inside_a_stream_is_an_event_of_its_own(make: MakeForm) -> None:
    """With the message, and no end mark behind it."""
    (event,) = events(make().error("it broke"))

    assert "it broke" in json.dumps(event["error"])


def test_json_is_compact_and_keeps_its_letters() -> None:
    """UTF-8, as engines write it."""
    assert to_json({"a": "ü", "b": [1, None]}) == '{"a":"ü","b":[1,null]}'.encode()


def test_an_answer_that_is_never_streamed_is_its_body() -> None:
    """Embeddings, say; refused as their API does it."""
    form = BodyForm({"a": 1}, text_error)

    assert form.whole(ANSWER, TIMING) == b'{"a":1}'
    assert form.refusal(429, "no") == form.error("no") == b'{"error":"no"}'
    assert form.begin() + form.piece("x") + form.end(ANSWER, TIMING, marked=True) == b""
