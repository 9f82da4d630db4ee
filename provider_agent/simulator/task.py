"""What a request asks for, and the answer to it, whole before it is sent; knows no API and no time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from provider_agent.simulator import text

Finish = Literal["stop", "length"]

DEEPEST_EXAMPLE = 8
"""Levels of a JSON schema that are followed; a schema may refer to itself."""


class BadTask(Exception):
    """The client's request cannot be served; the message is one sentence for it."""


class PromptTooLong(BadTask):
    """The prompt leaves no room for an answer."""

    def __init__(self, prompt_tokens: int, context_window: int) -> None:
        super().__init__(f"the prompt has {prompt_tokens} tokens, the context window {context_window}")
        self.prompt_tokens = prompt_tokens
        self.context_window = context_window


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that must be called."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One request, whichever API it came by.

    Attributes:
        prompt: all text of it; the answer depends on nothing else but `seed`.
        max_tokens: None for the answer's own length.
        endless: go on until `max_tokens`, as an engine does that ignores its end mark.
        schema: JSON that matches this schema instead of prose; `{}` is any object.
    """

    model: str
    prompt: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    endless: bool = False
    stops: tuple[str, ...] = ()
    seed: str = ""
    schema: Mapping[str, Any] | None = None
    tool: Tool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that will be said.

    Attributes:
        pieces: the text, token by token.
    """

    pieces: tuple[str, ...]
    prompt_tokens: int
    finish: Finish

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        return len(self.pieces)


def compose(task: Task, context_window: int) -> Answer:
    """Make the answer. Raises PromptTooLong.

    1. The text has its own length, or that of `max_tokens` and the context window.
    2. A stop string cuts it, wherever the borders of tokens are, and ends it as `stop`.
    """
    prompt_tokens = text.count_tokens(task.prompt)
    room = context_window - prompt_tokens
    if room <= 0:
        raise PromptTooLong(prompt_tokens, context_window)
    limit = room if task.max_tokens is None else min(room, task.max_tokens)
    tokens = _wording(task, limit)
    finish: Finish = "length" if len(tokens) > limit or task.endless else "stop"  # 1
    pieces = tokens[:limit]
    whole = "".join(pieces)
    stop_at = _first_stop(whole, task.stops)
    if stop_at is not None:  # 2
        pieces, finish = _cut(pieces, stop_at), "stop"
    return Answer(tuple(pieces), prompt_tokens, finish)


def example(schema: Any, seed: str, depth: int = 0) -> Any:
    """A value that matches the usual shapes of a JSON schema; of any other (`true`, say), a text."""
    if not isinstance(schema, Mapping):
        return text.sentence(seed)
    if "const" in schema:
        return schema["const"]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = _kind(schema)
    if kind == "object":
        return _example_object(schema, seed, depth)
    if kind == "array":
        return [] if depth >= DEEPEST_EXAMPLE else [example(schema.get("items", {}), seed, depth + 1)]
    return _EXAMPLES.get(kind) if kind in _EXAMPLES else text.sentence(seed)


def _wording(task: Task, limit: int) -> list[str]:
    seed = text.digest(task.seed, task.prompt)
    if task.tool is not None:
        return text.tokens_of(json.dumps(example(task.tool.parameters, seed)))
    if task.schema is not None:
        return text.tokens_of(json.dumps(example(task.schema or _ANY_OBJECT, seed)))
    return text.endless_answer(seed, limit) if task.endless else text.answer(seed)


_EXAMPLES = {"integer": 7, "number": 1.5, "boolean": True, "null": None}

_ANY_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "simulated": {"type": "boolean"}},
}


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(kind[0] if isinstance(kind, list) and kind else kind)


def _example_object(schema: Mapping[str, Any], seed: str, depth: int) -> dict[str, Any]:
    if depth >= DEEPEST_EXAMPLE:
        return {}
    fields = schema.get("properties")
    inner = fields.items() if isinstance(fields, Mapping) else ()
    return {name: example(part, seed + name, depth + 1) for name, part in inner}


def _first_stop(whole: str, stops: tuple[str, ...]) -> int | None:
    return min((at for stop in stops if stop and (at := whole.find(stop)) >= 0), default=None)


def _cut(pieces: list[str], length: int) -> list[str]:
    """The first `length` characters; the last piece may be a part of a token."""
    kept: list[str] = []
    for piece in pieces:
        if length <= 0:
            break
        kept.append(piece[:length])
        length -= len(piece)
    return kept
