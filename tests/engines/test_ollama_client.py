"""The `ollama` client gets from the line what it gets from the engine itself, at temperature 0."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from tests.engines.conftest import Line, StartAgent
from tests.engines.processes import LlamaServer, OllamaStandin, eventually

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_outside",
        "description": "Look outside",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
PLAIN = {"temperature": 0, "seed": 7, "num_predict": 40}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with a system prompt": {"messages": [{"role": "system", "content": "Be kind."}]},
    "cut at num_predict": {"options": PLAIN | {"num_predict": 3}},
    "with a tool": {"tools": [WEATHER], "options": PLAIN | {"num_predict": 300}},
    "with a JSON schema": {"format": PERSON},
    "with JSON": {"format": "json"},
    "beyond ASCII": {"messages": [{"role": "user", "content": "Grüße, 世界 🌍"}]},
}
every_chat = pytest.mark.parametrize("asked", CHATS.values(), ids=CHATS.keys())
LONG: dict[str, Any] = {"options": {"temperature": 0, "num_predict": 1500}}


@dataclass(frozen=True)
class Two:
    """The client in front of the engine, and in front of the line."""

    direct: ollama.Client
    through: ollama.Client


def client(url: str) -> closing[ollama.Client]:
    return closing(ollama.Client(url, timeout=30))


@pytest.fixture(scope="module")
def two(folder: Path, line: Line, start_agent: StartAgent) -> Iterator[Two]:
    """An engine with Ollama's wire format, and an agent that finds out so by itself."""
    models = {"small": line.chat.url, "small-embed": line.embedding.url, "big": line.slow.url}
    names = {f"{name}:latest" for name in models}
    with ExitStack() as stack:
        engine = stack.enter_context(OllamaStandin(folder, "ollama-standin", models))
        stack.enter_context(start_agent("ollama-auto-den", ("auto", engine.url, ""), models=names))
        yield Two(stack.enter_context(client(engine.url)), stack.enter_context(client(line.url)))


def chat(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain = {"model": "small", "messages": [{"role": "user", "content": "Who writes?"}], "options": PLAIN}
    return plain | asked | more


def said(answer: ollama.ChatResponse) -> list[Any]:
    """All that must be equal of an answer or of a piece of it."""
    calls = [(call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()]
    counts = answer.prompt_eval_count, answer.eval_count
    return [answer.message.role, answer.message.content, calls, answer.done, answer.done_reason, counts]


# --- answers -----------------------------------------------------------------------------


@every_chat
def test_a_chat_is_answered_as_by_the_engine(two: Two, asked: dict[str, Any]) -> None:
    """Field note 35: no parameter is lost on the way; a name without its tag is known."""
    expected = said(two.direct.chat(**chat(asked)))

    assert said(two.through.chat(**chat(asked))) == expected


@every_chat
def test_a_streamed_chat_is_answered_as_by_the_engine(two: Two, asked: dict[str, Any]) -> None:
    """The same lines in the same order, up to the one that is done."""
    expected = [said(each) for each in two.direct.chat(**chat(asked), stream=True)]

    got = [said(each) for each in two.through.chat(**chat(asked), stream=True)]
    assert got == expected
    assert len(got) > 1


def test_a_tool_is_called(two: Two) -> None:
    """Arguments are an object here; and what the tool said goes back."""
    messages: list[Any] = [{"role": "user", "content": "Who writes?"}]
    request = chat(CHATS["with a tool"], messages=messages)
    answer = two.through.chat(**request)
    calls = answer.message.tool_calls or ()
    replies = [{"role": "tool", "tool_name": "look_outside", "content": "rain"} for _ in calls]
    again = two.through.chat(**chat({}, messages=[*messages, answer.message, *replies]))

    assert [isinstance(call.function.arguments, dict) for call in calls] == [True]
    assert again.done


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_a_prompt_is_answered_as_by_the_engine(two: Two, system: str | None) -> None:
    """Streamed and not."""
    request: dict[str, Any] = {"model": "small", "prompt": "An agent", "system": system, "options": PLAIN}
    expected = two.direct.generate(**request)
    pieces = [each.response for each in two.direct.generate(**request, stream=True)]

    got = two.through.generate(**request)
    assert (got.response, got.done_reason, got.eval_count) == (
        expected.response,
        expected.done_reason,
        expected.eval_count,
    )
    assert [each.response for each in two.through.generate(**request, stream=True)] == pieces


@pytest.mark.parametrize("text", ["An agent", ["An agent", "carries words"]])
def test_embeddings_are_those_of_the_engine(two: Two, text: Any) -> None:
    """One input or several."""
    expected = two.direct.embed("small-embed", text)

    assert two.through.embed("small-embed", text).embeddings == expected.embeddings


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_is_loaded_by_a_chat_without_messages(two: Two, stream: bool) -> None:
    """One bare object, also where lines are usual."""
    if stream:
        (answer,) = two.through.chat("small", stream=True)
    else:
        answer = two.through.chat("small")

    assert (answer.done, answer.done_reason) == (True, "load")


# --- models ------------------------------------------------------------------------------


def test_models_are_listed_with_their_digests(two: Two) -> None:
    """Those that can be had here, and no others of the fleet."""
    expected = {model.model: model.digest for model in two.direct.list().models}

    assert {model.model: model.digest for model in two.through.list().models} == expected
    assert "small:latest" in expected


@pytest.mark.parametrize("name", ["small", "small:latest", "small-embed"])
def test_a_model_is_shown(two: Two, name: str) -> None:
    """What is known of it: its context, and whether it talks and calls tools."""
    expected, got = two.direct.show(name), two.through.show(name)

    assert expected.modelinfo is not None
    assert got.modelinfo is not None
    assert expected.modelinfo["llama.context_length"] == got.modelinfo["unknown.context_length"]
    assert got.capabilities == expected.capabilities


def test_running_models_are_told(two: Two) -> None:
    """As soon as the agent has looked; it does so each second here."""
    two.through.chat("small")
    assert "small:latest" in running(two.direct)

    eventually(lambda: running(two.through) == running(two.direct), 5, "the same models run")


def running(asked: ollama.Client) -> dict[str | None, int | None]:
    """The models in memory, with their context."""
    return {model.model: model.context_length for model in asked.ps().models}


# --- failures ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_told_as_ollama_tells_it(two: Two, stream: bool) -> None:
    """404, and the same words; in those of its own from a coordinator that has just been started."""
    told = []
    for asks in (two.direct, two.through):
        with pytest.raises(ollama.ResponseError) as caught:
            list(asks.chat("none", stream=stream))  # type: ignore[call-overload]
        told.append((caught.value.status_code, caught.value.error))

    assert told[0] == (404, "model 'none' not found")
    assert told[1] in (told[0], (404, "no agent serves the model 'none'"))


def test_a_model_of_another_engine_is_refused_in_words(two: Two) -> None:
    """`tiny` is llama.cpp's; where it is served is said."""
    with pytest.raises(ollama.ResponseError, match="not served at /api/chat, only at /v1/") as caught:
        two.through.chat("tiny")

    assert caught.value.status_code == httpx.codes.NOT_FOUND


def test_a_request_that_the_engine_refuses_is_refused_with_its_words(two: Two) -> None:
    """An embedding model does not chat: 400 at Ollama; the fleet knows before."""
    with pytest.raises(ollama.ResponseError, match="not served at /api/chat, only at /api/embed"):
        two.through.chat("small-embed", messages=[{"role": "user", "content": "Hello"}])


@pytest.mark.parametrize(
    "asked",
    [("pull", "small"), ("push", "small"), ("delete", "small"), ("copy", "small", "b"), ("create", "b")],
)
def test_models_are_not_managed_from_here(two: Two, asked: tuple[str, ...]) -> None:
    """Each such request has its answer."""
    method, *names = asked
    with pytest.raises(ollama.ResponseError, match="managed on the machines of the agents") as caught:
        getattr(two.through, method)(*names)

    assert caught.value.status_code == httpx.codes.NOT_IMPLEMENTED


def test_an_engine_that_dies_in_the_middle_ends_the_stream_with_an_error(
    folder: Path, line: Line, start_agent: StartAgent
) -> None:
    """Never with `done` (field notes 28, 75)."""
    with (
        LlamaServer(folder, "mortal", model="slow") as server,
        OllamaStandin(folder, "mortal-ollama", {"mortal": server.url}) as engine,
        start_agent("mortal-den", ("ollama", engine.url, ""), models={"mortal:latest"}),
        client(line.url) as through,
    ):
        stream = through.chat(**chat(LONG, model="mortal"), stream=True)
        assert not next(stream).done
        server.kill()
        with pytest.raises(ollama.ResponseError, match="error"):
            assert not any(piece.done for piece in stream)


def test_leaving_a_stream_frees_the_slot(line: Line, two: Two) -> None:
    """As at every other door; field note 70."""
    stream = two.through.chat(**chat(LONG, model="big"), stream=True)
    for _ in range(3):
        next(stream)
    assert line.slow.busy_slots() == 1
    stream.close()  # type: ignore[attr-defined]

    eventually(lambda: line.slow.busy_slots() == 0, 0.5, "the engine's slots are free")


def test_signs_of_life_while_a_prompt_is_read_do_not_disturb(lively: str) -> None:
    """The client decodes each line (field note 74)."""

    def request(word: str) -> dict[str, Any]:
        """A prompt that the engine does not know yet."""
        prompt = [{"role": "user", "content": f"{word} " * 200}]
        return {"model": "slow", "messages": prompt, "options": {"num_predict": 4}}

    with httpx.stream("POST", f"{lively}/api/chat", json=request("one"), timeout=30) as raw:
        begin = next(raw.iter_raw())
    with client(lively) as asks:
        pieces = list(asks.chat(**request("two"), stream=True))

    assert begin.strip() == b""
    assert pieces[-1].done
