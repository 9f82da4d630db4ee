"""What one JSON object of an engine's answer says of end, error and usage; knows no stream."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from provider_agent.backends import lenient
from provider_agent.backends.base import Usage
from provider_agent.protocol.fields import LARGEST_COUNT

_GIVEN_UP: Final = ("error", "abort")
"""No model ends so: OpenRouter, vLLM and SGLang say it of an answer that they did not finish."""

_FAILED: Final[Mapping[str, str]] = {"message": "the engine gave the answer up"}

_LONGEST_INDEX: Final = 20
_MOST_OBJECTS: Final = 100_000
_LONG_BYTES: Final = _MOST_OBJECTS
"""Only what is longer can have so many."""

_COUNTS: Final = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")
_CACHED: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


class Facts(msgspec.Struct, frozen=True):
    """The few members that matter, of any family; all else is skipped unread.

    Any type is let in, since an engine's slip in one member must not hide the others.
    """

    error: Any = None
    object_type: Any = msgspec.field(default=None, name="object")
    event_type: Any = msgspec.field(default=None, name="type")
    message: Any = None
    code: Any = None
    choices: Any = None
    usage: Any = None
    timings: Any = None
    response: Any = None
    status: Any = None
    done: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None

    @property
    def failure(self) -> object:
        """The error that this object reports, or None. `"error": null` is none, nor is an empty one."""
        if self.error:
            return self.error
        if "error" in (self.object_type, self.event_type):  # vLLM and SGLang in the past; /v1/responses
            return {"message": self.message, "code": self.code}
        if self.event_type == "response.failed":
            return self._in_response("error") or {"message": "the response failed"}
        if self.object_type == "response" and self.status == "failed":
            return {"message": "the response failed"}
        for each in self._choices:
            if each.get("error") or each.get("finish_reason") in _GIVEN_UP:
                return each.get("error") or _FAILED
        return None

    @property
    def ends_response(self) -> bool:
        """The last event of `/v1/messages`, or of `/v1/responses`: an incomplete one was cut at its limit."""
        return self.event_type in ("response.completed", "response.incomplete", "message_stop")

    def _in_response(self, name: str) -> object:
        return self.response.get(name) if isinstance(self.response, dict) else None

    @property
    def is_usage_only(self) -> bool:
        """The extra event that `stream_options.include_usage` brings."""
        return self.choices == [] and isinstance(self.usage, dict)

    @property
    def finished_choices(self) -> frozenset[object]:
        """Indices of the choices that end here. LocalAI has sent an empty reason with each token."""
        return frozenset(_index(each.get("index", 0)) for each in self._choices if each.get("finish_reason"))

    @property
    def _choices(self) -> list[dict[str, Any]]:
        if not self.choices or not isinstance(self.choices, list):
            return []
        return [each for each in self.choices if isinstance(each, dict)]

    def usage_after(self, before: Usage) -> Usage:
        """What is known with this object: its own counts, and those before it where it says none."""
        said = self.usage or (self.response and self._in_response("usage"))
        if said is None and isinstance(self.message, dict):  # of `message_start`
            said = self.message.get("usage")
        if isinstance(said, dict):
            return with_usage(before, said)
        if isinstance(self.timings, dict):
            return with_usage(before, _in_timings(self.timings))
        if self.prompt_eval_count is None and self.eval_count is None:
            return before
        return with_usage(before, {"input_tokens": self.prompt_eval_count, "output_tokens": self.eval_count})


def _index(said: object) -> str:
    """Something short, whatever an engine writes there: it is remembered."""
    if isinstance(said, str):
        return said[:_LONGEST_INDEX]
    return str(said) if isinstance(said, int) and abs(said) <= LARGEST_COUNT else "odd"


_decoder = msgspec.json.Decoder(Facts)


def read(data: bytes) -> Facts | None:
    """The facts in a JSON object; None when it is no JSON object, or nothing but brackets."""
    if len(data) > _LONG_BYTES and _is_absurd(data):
        return None
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def make_out(data: bytes) -> Facts | None:
    """The facts in what `read` refused, in the form of an object, as far as they can be made out.

    What cannot be read at all, and speaks of an error, is one: it must never look like an answer.
    """
    try:
        value = None if _is_absurd(data) else lenient.loads(data)
    except ValueError:
        return Facts(error="unreadable") if b'"error"' in data else None
    if not isinstance(value, dict):
        return None
    known = {name: value[name] for name in Facts.__struct_encode_fields__ if name in value}
    return msgspec.convert(known, Facts)  # of the other names, some may be none that can be written


def _is_absurd(data: bytes) -> bool:
    """No engine has so many objects and lists in one event; to read them would stop the other jobs."""
    return data.count(b"{") + data.count(b"[") > _MOST_OBJECTS


def with_usage(before: Usage, said: Mapping[str, Any]) -> Usage:
    """Counts as OpenAI names them, which is the ordinary case; else as Anthropic does, else as before.

    1. Nothing was counted yet: Ollama and LocalAI send such a usage with each token.
    2. Of a rerank some tell the total only; there is nothing but input.
    3. Anthropic's input is without what was in the cache, OpenAI's is with it.
    """
    if said.get("prompt_tokens"):
        return Usage(
            _first_count(said["prompt_tokens"], before.input_tokens),
            _first_count(said.get("completion_tokens"), before.output_tokens),
        )
    if not any(said.get(name) for name in (*_COUNTS, *_CACHED)):  # 1
        total = None if any(name in said for name in _COUNTS) else said.get("total_tokens") or None  # 2
        return Usage(_first_count(total, before.input_tokens), before.output_tokens)
    cached = sum(_first_count(said.get(name)) or 0 for name in _CACHED)  # 3
    uncached = _first_count(said.get("input_tokens"))
    whole = None if uncached is None else uncached + cached
    return Usage(
        _first_count(said.get("prompt_tokens"), whole, before.input_tokens),
        _first_count(said.get("completion_tokens"), said.get("output_tokens"), before.output_tokens),
    )


def _in_timings(timings: Mapping[str, Any]) -> dict[str, Any]:
    """What llama.cpp tells with each token if it is asked to, and else at the end, even without usage."""
    return {
        "input_tokens": timings.get("prompt_n"),
        "cache_read_input_tokens": timings.get("cache_n"),
        "output_tokens": timings.get("predicted_n"),
    }


def _first_count(*values: object) -> int | None:
    """The first that can be a count; an engine's nonsense is not reported as tokens, nor fits a frame."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT:
            return value
    return None
