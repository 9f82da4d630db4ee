"""What one JSON object of an engine's answer says of end, error and usage; knows no stream."""

from typing import Any

import msgspec

from provider_agent.backends.base import Usage


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
    done: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None

    @property
    def failure(self) -> object:
        """The error that this object reports, or None. `"error": null` is none, nor is an empty one."""
        if self.error:
            return self.error
        if "error" in (self.object_type, self.event_type):  # vLLM and SGLang in the past
            return {"message": self.message, "code": self.code}
        return None

    @property
    def is_usage_only(self) -> bool:
        """The extra event that `stream_options.include_usage` brings."""
        return self.choices == [] and isinstance(self.usage, dict)

    @property
    def finished_choices(self) -> frozenset[object]:
        """Indices of the choices that end here."""
        if not isinstance(self.choices, list):
            return frozenset()
        return frozenset(
            str(each.get("index", 0))
            for each in self.choices
            if isinstance(each, dict) and each.get("finish_reason") is not None
        )

    def usage_after(self, before: Usage) -> Usage:
        """What is known with this object: its own counts, and those before it where it says none."""
        said = self.usage if isinstance(self.usage, dict) else {}
        return with_usage(
            before,
            said | {"prompt_eval_count": self.prompt_eval_count, "eval_count": self.eval_count},
        )


_decoder = msgspec.json.Decoder(Facts)


def read(data: bytes) -> Facts | None:
    """The facts in a JSON object; None when it is no JSON object."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def with_usage(before: Usage, said: dict[str, Any]) -> Usage:
    """OpenAI, then Anthropic and newer OpenAI, then Ollama."""
    given = _first_count(said, "prompt_tokens", "input_tokens", "prompt_eval_count")
    made = _first_count(said, "completion_tokens", "output_tokens", "eval_count")
    return Usage(
        before.input_tokens if given is None else given,
        before.output_tokens if made is None else made,
    )


def _first_count(said: dict[str, Any], *names: str) -> int | None:
    for name in names:
        count = said.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
            return count
    return None
