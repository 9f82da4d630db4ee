"""OpenAI's shapes: what is special to chat, completions, errors and models."""

import json

from provider_agent.simulator.forms import Timing
from provider_agent.simulator.openai import (
    DONE,
    ChatForm,
    CompletionForm,
    too_long,
)
from provider_agent.simulator.style import PLAIN, Style
from provider_agent.simulator.task import Answer, PromptTooLong, Task, Tool

ANSWER = Answer(("Hello", " you"), prompt_tokens=3, finish="stop")
TIMING = Timing(0, 0)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chat(task: Task) -> ChatForm:
    return ChatForm(task, "1", 1_700_000_000)


def last_events(form: ChatForm | CompletionForm) -> list[dict[str, object]]:
    end = form.end(ANSWER, TIMING, marked=True)
    assert end.endswith(DONE)
    return [json.loads(event.removeprefix(b"data: ")) for event in end.split(b"\n\n")[:-2]]


def test_a_chat_ends_with_its_finish_reason_and_an_empty_delta() -> None:
    """No usage unless it was asked for."""
    (last,) = last_events(chat(Task(model="a", prompt="")))

    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert "usage" not in last


def test_usage_comes_as_an_event_without_choices() -> None:
    """After the finish reason, before the end mark, for both endpoints."""
    task = Task(model="a", prompt="", include_usage=True)

    for form in (chat(task), CompletionForm(task, "1", 0)):
        _, usage = last_events(form)
        assert (usage["choices"], usage["usage"]) == ([], USAGE)


def test_a_whole_chat_has_the_fields_that_the_schema_requires() -> None:
    """Also `logprobs`, which may be null but not absent."""
    body = json.loads(chat(Task(model="a", prompt="")).whole(ANSWER, TIMING))
    (choice,) = body["choices"]

    assert body["object"] == "chat.completion"
    assert body["usage"] == USAGE
    assert choice["message"] == {"role": "assistant", "content": "Hello you"}
    assert choice["logprobs"] is None


def test_a_tool_call_is_streamed_as_its_name_and_then_its_arguments() -> None:
    """The first delta has id and name; the pieces are arguments; the reason is `tool_calls`."""
    form = chat(Task(model="a", prompt="", tool=Tool("weather", {})))
    first = json.loads(form.begin().removeprefix(b"data: "))["choices"][0]["delta"]["tool_calls"][0]
    piece = json.loads(form.piece('{"a"').removeprefix(b"data: "))["choices"][0]["delta"]
    (last,) = last_events(form)

    assert first["function"] == {"name": "weather", "arguments": ""}
    assert piece == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}
    assert "tool_calls" in json.dumps(last["choices"])


def test_a_whole_tool_call_has_no_content() -> None:
    """And no index: that belongs to streams."""
    form = chat(Task(model="a", prompt="", tool=Tool("weather", {})))
    (choice,) = json.loads(form.whole(ANSWER, TIMING))["choices"]
    (call,) = choice["message"]["tool_calls"]

    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"] == {"name": "weather", "arguments": "Hello you"}
    assert "index" not in call


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    """In llama-server's words."""
    error = too_long(PromptTooLong(200, 100), PLAIN)["error"]

    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (200, 100)


def test_usage_comes_where_the_family_puts_it() -> None:
    """Beside the finish reason, or beside a delta that says nothing; some do not wait to be asked."""
    task = Task(model="a", prompt="")
    (beside,) = last_events(ChatForm(task, "1", 0, Style(usage="finish", counts_unasked=True)))
    _, after = last_events(ChatForm(task, "1", 0, Style(usage="delta", counts_unasked=True)))
    (nowhere,) = last_events(ChatForm(task, "1", 0, Style(usage="nowhere", counts_unasked=True)))

    assert beside["usage"] == after["usage"] == USAGE
    assert after["choices"]
    assert "usage" not in nowhere


def test_a_family_adds_members_of_its_own() -> None:
    """To chunks, to choices, to whole bodies; and a remark before the first event."""
    style = Style(members={"x": 1}, choice_members={"y": 2}, comment=b": wait\n\n", has_timings=True)
    form = ChatForm(Task(model="a", prompt="", include_usage=True), "1", 0, style)
    chunk = json.loads(form.begin().removeprefix(b": wait\n\ndata: "))
    body = json.loads(form.whole(ANSWER, TIMING))
    _, usage = last_events(form)

    assert (chunk["x"], chunk["choices"][0]["y"], body["x"], body["choices"][0]["y"]) == (1, 2, 1, 2)
    assert usage["timings"] == body["timings"]


def test_a_stream_may_end_without_a_mark() -> None:
    """As `transformers serve` ends."""
    form = ChatForm(Task(model="a", prompt=""), "1", 0, Style(is_marked=False))

    assert b"[DONE]" not in form.end(ANSWER, TIMING, marked=True)
