"""The `anthropic` client gets from the line what it gets from the engine itself, at temperature 0."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic

from tests.engines.conftest import Line, StartAgent
from tests.engines.processes import LlamaServer, eventually

WEATHER: dict[str, Any] = {
    "name": "look_outside",
    "description": "Look outside",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "with a system prompt": {"system": "Be kind."},
    "cut at max_tokens": {"max_tokens": 5},
    "with a stop word": {"stop_sequences": ["word"]},
    "with a tool": {"tools": [WEATHER]},
    "with a forced tool": {"tools": [WEATHER], "tool_choice": {"type": "any"}},
    "beyond ASCII": {"messages": [{"role": "user", "content": "Grüße, 世界 🌍"}]},
}
every_message = pytest.mark.parametrize("asked", MESSAGES.values(), ids=MESSAGES.keys())


@dataclass(frozen=True)
class Two:
    """The client in front of the engine, and in front of the line."""

    direct: Anthropic
    through: Anthropic


def client(url: str) -> Anthropic:
    return Anthropic(base_url=url, api_key="none", max_retries=0, timeout=30)


@pytest.fixture(scope="module")
def two(line: Line) -> Iterator[Two]:
    with client(line.chat.url) as direct, client(line.url) as through:
        yield Two(direct, through)


def message(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"model": "tiny", "max_tokens": 60, "extra_body": {"temperature": 0}}
    return plain | {"messages": [{"role": "user", "content": "Who writes?"}]} | asked | more


def said(answer: anthropic.types.Message) -> list[Any]:
    """All that must be equal of an answer; ids differ."""
    blocks = [block.model_dump(exclude={"id"}) for block in answer.content]
    return [answer.role, answer.model, blocks, answer.stop_reason, answer.usage.output_tokens]


@every_message
def test_a_message_is_answered_as_by_the_engine(two: Two, asked: dict[str, Any]) -> None:
    """Field note 35: no parameter is lost on the way."""
    expected = said(two.direct.messages.create(**message(asked)))

    assert said(two.through.messages.create(**message(asked))) == expected


@every_message
def test_a_streamed_message_is_answered_as_by_the_engine(two: Two, asked: dict[str, Any]) -> None:
    """The same events in the same order, and the same message in the end."""
    told = []
    for asks in (two.direct, two.through):
        with asks.messages.stream(**message(asked)) as stream:
            kinds = [event.type for event in stream]
            told.append((kinds, said(stream.get_final_message())))

    assert told[0] == told[1]
    assert told[0][0][-1] == "message_stop"


def test_an_answer_names_its_job_and_its_agent(two: Two) -> None:
    """As at every other door."""
    answer = two.through.messages.with_raw_response.create(**message({}))

    assert answer.headers["X-Agent"] == "den"
    assert answer.headers["X-Job-Id"]


def test_what_is_wrong_has_anthropics_class(two: Two) -> None:
    """An unknown model, a prompt beyond the context."""
    too_long = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(anthropic.NotFoundError, match="no agent serves the model"):
        two.through.messages.create(**message({}, model="none"))
    with pytest.raises(anthropic.BadRequestError, match="context"):
        two.through.messages.create(**message({}, messages=too_long))


def test_an_engine_that_dies_in_the_middle_ends_the_stream_with_an_error(
    folder: Path, line: Line, start_agent: StartAgent
) -> None:
    """Never with `message_stop` (field notes 28, 75)."""
    request = message({}, model="fragile", max_tokens=1500)
    with (
        LlamaServer(folder, "fragile", model="slow") as server,
        start_agent("fragile-den", ("llamacpp", server.url, ""), models={"fragile"}),
        client(line.url) as through,
        through.messages.create(**request, stream=True) as stream,
    ):
        seen = [next(stream).type for _ in range(3)]
        server.kill()
        with pytest.raises(anthropic.APIStatusError) as caught:
            seen += [event.type for event in stream]

    assert "message_stop" not in seen
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "api_error"


def test_leaving_a_stream_frees_the_slot(line: Line, two: Two) -> None:
    """As at every other door; field note 70."""
    with two.through.messages.create(**message({}, model="slow", max_tokens=1500), stream=True) as stream:
        for _ in range(3):
            next(stream)
        assert line.slow.busy_slots() == 1

    eventually(lambda: line.slow.busy_slots() == 0, 0.5, "the engine's slots are free")


def test_signs_of_life_while_a_prompt_is_read_do_not_disturb(lively: str) -> None:
    """They come before the message starts, and the client passes over them (field note 74)."""

    def request(word: str) -> dict[str, Any]:
        """A prompt that the engine does not know yet."""
        return {"model": "slow", "messages": [{"role": "user", "content": f"{word} " * 200}], "max_tokens": 4}

    body = request("three") | {"stream": True}
    with httpx.stream("POST", f"{lively}/v1/messages", json=body, timeout=30) as raw:
        begin = next(raw.iter_lines())
    with client(lively) as asks, asks.messages.stream(**request("four")) as stream:
        kinds = [event.type for event in stream]

    assert begin == "event: ping"
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
