"""The `openai` client gets from the line what it gets from the engine itself, at temperature 0."""

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.engines.conftest import Line, client, data_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "look_outside",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
            "required": ["place", "unit"],
        },
    },
}
PERSON = {
    "name": "person",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "well": {"type": "boolean"}},
        "required": ["name", "age", "well"],
        "additionalProperties": False,
    },
}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with a system prompt": {"messages": [{"role": "system", "content": "Be kind."}]},
    "cut at max_tokens": {"max_tokens": 5},
    "with a stop word": {"stop": ["word"]},
    "with a forced tool": {"tools": [WEATHER], "tool_choice": "required"},
    "with a tool": {"tools": [WEATHER]},
    "with a JSON schema": {"response_format": {"type": "json_schema", "json_schema": PERSON}},
    "with JSON": {"response_format": {"type": "json_object"}, "max_tokens": 40},
    "beyond ASCII": {"messages": [{"role": "user", "content": "Grüße, 世界 🌍"}]},
}
every_chat = pytest.mark.parametrize("asked", CHATS.values(), ids=CHATS.keys())


def chat(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain = {"model": "tiny", "temperature": 0, "seed": 7, "max_tokens": 60}
    return plain | {"messages": [{"role": "user", "content": "Who writes?"}]} | asked | more


def counts(usage: Any) -> tuple[int, ...] | None:
    """What is billed; how much of the prompt the engine still knew is a matter of its cache."""
    return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def said(completion: Any) -> list[Any]:
    """All that must be equal of an answer: text, tool calls, why it ended, usage."""
    choices = [
        (
            choice.index,
            choice.finish_reason,
            choice.message.role,
            choice.message.content,
            [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()],
        )
        for choice in completion.choices
    ]
    return [completion.model, choices, counts(completion.usage)]


def streamed(asked: OpenAI, request: dict[str, Any]) -> list[Any]:
    """All that must be equal of a stream, piece by piece."""
    pieces: list[Any] = []
    for chunk in asked.chat.completions.create(**request, stream=True):
        for choice in chunk.choices:
            calls = [
                (call.index, call.function and call.function.name, call.function and call.function.arguments)
                for call in choice.delta.tool_calls or ()
            ]
            pieces.append(
                (choice.index, choice.delta.role, choice.delta.content, calls, choice.finish_reason)
            )
        if not chunk.choices:
            pieces.append(counts(chunk.usage))
    return pieces


@every_chat
def test_a_chat_is_answered_as_by_the_engine(line: Line, asked: dict[str, Any]) -> None:
    """Field note 35: no parameter is lost on the way, and the reason to end is the engine's."""
    expected = said(line.direct.chat.completions.create(**chat(asked)))

    assert said(line.through.chat.completions.create(**chat(asked))) == expected


@every_chat
def test_a_streamed_chat_is_answered_as_by_the_engine(line: Line, asked: dict[str, Any]) -> None:
    """The same pieces in the same order; and no event about usage, which nobody asked for; field note 29."""
    expected = streamed(line.direct, chat(asked))

    got = streamed(line.through, chat(asked))
    assert got == expected
    assert all(isinstance(piece, tuple) and len(piece) == 5 for piece in got)


@every_chat
def test_usage_comes_with_a_stream_that_asks_for_it(line: Line, asked: dict[str, Any]) -> None:
    """One event more, with the engine's own numbers."""
    request = chat(asked, stream_options={"include_usage": True})
    expected = streamed(line.direct, request)

    got = streamed(line.through, request)
    assert got == expected
    assert got[-1][1] > 0


def test_a_stream_goes_through_byte_by_byte(line: Line) -> None:
    """Only ids, times and measurements differ: events, their order and their end mark are the engine's."""

    def events(url: str) -> list[str]:
        answer = httpx.post(f"{url}/v1/chat/completions", json=chat({}, stream=True), timeout=30)
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [data.partition('"created"')[0] for data in data_of(answer.text)]

    expected = events(line.chat.url)

    assert events(line.url) == expected
    assert expected[-1] == "[DONE]"


def test_a_completion_is_answered_as_by_the_engine(line: Line) -> None:
    """The older endpoint, streamed and not."""
    request: dict[str, Any] = {"model": "tiny", "prompt": "An agent", "temperature": 0, "max_tokens": 24}

    def whole(asked: OpenAI) -> list[Any]:
        answer = asked.completions.create(**request)
        return [(c.text, c.finish_reason) for c in answer.choices] + [counts(answer.usage)]

    def pieces(asked: OpenAI) -> list[Any]:
        stream = asked.completions.create(**request, stream=True)
        return [(choice.text, choice.finish_reason) for chunk in stream for choice in chunk.choices]

    assert whole(line.through) == whole(line.direct)
    assert pieces(line.through) == pieces(line.direct)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_those_of_the_engine(line: Line, encoding: Any) -> None:
    """Vectors, order and usage; several inputs at once."""
    with client(line.embedding.url) as direct:
        request: dict[str, Any] = {"model": "tiny-embed", "input": ["An agent", "carries words"]}
        expected = direct.embeddings.create(**request, encoding_format=encoding)
        got = line.through.embeddings.create(**request, encoding_format=encoding)

    assert [each.embedding for each in got.data] == [each.embedding for each in expected.data]
    assert got.usage == expected.usage


def test_a_request_that_the_engine_refuses_is_refused_with_its_words(line: Line) -> None:
    """A prompt beyond the context is the client's to mend: 400 and the engine's message; field note 30."""
    request = chat({"messages": [{"role": "user", "content": "word " * 9000}]})
    expected = httpx.post(f"{line.chat.url}/v1/chat/completions", json=request, timeout=30)

    got = httpx.post(f"{line.url}/v1/chat/completions", json=request, timeout=30)
    assert got.status_code == expected.status_code == httpx.codes.BAD_REQUEST
    assert expected.json()["error"]["message"] in got.json()["error"]["message"]


def test_what_is_wrong_has_openais_class(line: Line) -> None:
    """An unknown model, one that is not served there, a path that is nowhere; each says why."""
    with pytest.raises(openai.NotFoundError, match="no agent serves the model") as unknown:
        line.through.chat.completions.create(**chat({}, model="none"))
    with pytest.raises(openai.NotFoundError, match="not served at /v1/embeddings, only at /v1/chat"):
        line.through.embeddings.create(model="tiny", input="An agent")
    with pytest.raises(openai.NotFoundError, match="there is nothing at this path"):
        line.through.moderations.create(input="An agent")

    assert unknown.value.code == "model_not_found"


def test_an_answer_names_its_job_and_its_agent(line: Line) -> None:
    """Who looks for a job in the logs finds it by the headers; and no proxy may hold the stream back."""
    answer = line.through.chat.completions.with_raw_response.create(**chat({}, stream=True))

    assert answer.headers["X-Agent"] == "den"
    assert answer.headers["X-Job-Id"]
    assert answer.headers["X-Accel-Buffering"] == "no"
    answer.http_response.close()


def test_the_models_of_all_engines_are_listed(line: Line) -> None:
    """One list over all agents and engines."""
    assert {"tiny", "tiny-embed", "slow"} <= {model.id for model in line.through.models.list()}
    assert line.through.models.retrieve("tiny").model_extra["features"] == ["tools"]  # type: ignore[index]
