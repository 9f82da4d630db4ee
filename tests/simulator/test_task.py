"""Answers composed from tasks: length, stop strings, JSON and tools."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.simulator import text
from provider_agent.simulator.task import PromptTooLong, Task, Tool, compose, example

WINDOW = 4096
PLAIN = Task(model="a", prompt="hello")
WHOLE = compose(PLAIN, WINDOW)


def test_an_answer_of_its_own_length_ends_as_stop() -> None:
    """Nobody cut it."""
    assert WHOLE.finish == "stop"
    assert WHOLE.output_tokens == text.count_tokens(WHOLE.text)
    assert WHOLE.prompt_tokens == 1


def test_the_same_prompt_gets_the_same_answer() -> None:
    """Also by another model's name: only the prompt speaks."""
    assert compose(Task(model="b", prompt="hello"), WINDOW) == WHOLE


def test_max_tokens_cuts_the_answer_as_length() -> None:
    """Exactly so many tokens, and the reason says it."""
    answer = compose(Task(model="a", prompt="hello", max_tokens=5), WINDOW)

    assert (answer.output_tokens, answer.finish) == (5, "length")
    assert WHOLE.text.startswith(answer.text)


def test_an_answer_that_just_fits_ends_as_stop() -> None:
    """The limit did not cut anything."""
    answer = compose(Task(model="a", prompt="hello", max_tokens=WHOLE.output_tokens), WINDOW)

    assert (answer.output_tokens, answer.finish) == (WHOLE.output_tokens, "stop")


def test_an_endless_answer_fills_max_tokens() -> None:
    """Load tests want answers of a known length."""
    answer = compose(Task(model="a", prompt="hello", max_tokens=1000, endless=True), WINDOW)

    assert (answer.output_tokens, answer.finish) == (1000, "length")


def test_the_context_window_limits_prompt_and_answer_together() -> None:
    """A long prompt leaves little room."""
    answer = compose(Task(model="a", prompt="hello " * 90), 100)

    assert (answer.output_tokens, answer.finish) == (9, "length")


def test_a_prompt_that_fills_the_window_is_refused() -> None:
    """With both numbers, as llama-server says them."""
    with pytest.raises(PromptTooLong) as caught:
        compose(Task(model="a", prompt="hello " * 200), 100)

    assert (caught.value.prompt_tokens, caught.value.context_window) == (201, 100)


@given(st.integers(0, len(WHOLE.text) - 1), st.integers(1, 30))
def test_a_stop_string_cuts_across_the_borders_of_tokens(start: int, length: int) -> None:
    """Whatever piece of the text it is: the answer ends before its first occurrence."""
    stop = WHOLE.text[start : start + length]
    answer = compose(Task(model="a", prompt="hello", stops=("not in it", stop)), WINDOW)

    assert answer.text == WHOLE.text[: WHOLE.text.index(stop)]
    assert answer.finish == "stop"
    assert all(answer.pieces)


def test_a_stop_string_beyond_max_tokens_does_not_count() -> None:
    """The answer had ended before it."""
    stop = WHOLE.pieces[10]
    answer = compose(Task(model="a", prompt="hello", max_tokens=3, stops=(stop,)), WINDOW)

    assert answer.finish == "length"


def test_json_mode_gives_a_json_object() -> None:
    """Whole and valid, token by token."""
    answer = compose(Task(model="a", prompt="hello", schema={}), WINDOW)

    assert isinstance(json.loads(answer.text), dict)


def test_a_tool_that_must_be_called_gets_arguments_of_its_schema() -> None:
    """The text of the answer is the arguments."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    answer = compose(Task(model="a", prompt="hello", tool=Tool("weather", parameters)), WINDOW)
    arguments = json.loads(answer.text)

    assert isinstance(arguments["city"], str)
    assert isinstance(arguments["days"], int)


SCHEMAS = [
    ({"type": "integer"}, int),
    ({"type": "number"}, float),
    ({"type": "boolean"}, bool),
    ({"type": "null"}, type(None)),
    ({"type": ["string", "null"]}, str),
    ({"type": "array", "items": {"type": "string"}}, list),
    ({"properties": {"a": {"type": "integer"}}}, dict),
    ({}, str),
]


ODD_SCHEMAS: list[tuple[Any, type]] = [
    (True, str),
    ({"enum": 5}, str),
    ({"properties": [1]}, dict),
    ({"properties": {"a": True}}, dict),
    ({"type": "array", "items": True}, list),
]


@pytest.mark.parametrize(("schema", "kind"), ODD_SCHEMAS)
def test_an_odd_schema_has_an_example_too(schema: Any, kind: type) -> None:
    """Some engines take anything, and a client's mistake is no crash of ours."""
    assert isinstance(example(schema, "seed"), kind)


@pytest.mark.parametrize(("schema", "kind"), SCHEMAS)
def test_an_example_has_the_type_that_its_schema_asks_for(schema: dict[str, object], kind: type) -> None:
    """The usual shapes of schemas are enough."""
    assert isinstance(example(schema, "seed"), kind)


def test_an_example_takes_constants_and_the_first_of_an_enumeration() -> None:
    """Nothing else would match."""
    assert example({"const": 3}, "seed") == 3
    assert example({"enum": ["red", "blue"]}, "seed") == "red"


@pytest.mark.parametrize("kind", ["array", "object"])
def test_a_schema_without_end_is_followed_only_so_far(kind: str) -> None:
    """A schema that holds itself must not hang the engine."""
    schema: dict[str, object] = {"type": kind}
    schema["items" if kind == "array" else "properties"] = schema if kind == "array" else {"a": schema}

    assert len(json.dumps(example(schema, "seed"))) < 200
