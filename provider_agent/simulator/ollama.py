"""Ollama's own API: requests read, answers written; knows no HTTP server.

Durations are nanoseconds. A tool is never called: this API cannot demand one.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from provider_agent.simulator import text
from provider_agent.simulator.forms import Timing, to_json
from provider_agent.simulator.openai_tasks import content_text, stops_of
from provider_agent.simulator.task import Answer, BadTask, Task

Endpoint = Literal["chat", "generate"]
Json = Mapping[str, Any]

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = r"(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)"


def read_chat(body: Json) -> Task:
    """A body of `/api/chat`. Raises BadTask."""
    messages = body.get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadTask("messages must be a list of objects")
    parts = [f"{message.get('role', 'user')}\n{content_text(message.get('content'))}" for message in messages]
    return _read(body, "\n".join(parts))


def read_generate(body: Json) -> Task:
    """A body of `/api/generate`. Raises BadTask."""
    parts = [part for part in (body.get("system"), body.get("prompt")) if part]
    if not all(isinstance(part, str) for part in parts):
        raise BadTask("system and prompt must be texts")
    return _read(body, "\n".join(parts))


def keep_s(body: Json) -> float | None:
    """`keep_alive`: how long the model stays after this; None when it is left out. Raises BadTask.

    A number of seconds, or a duration of Go's such as `1h30m`; a negative one is for good.
    """
    said = body.get("keep_alive")
    if said is None:
        return None
    if isinstance(said, str):
        sign, digits = (-1.0, said[1:]) if said.startswith("-") else (1.0, said)
        if not re.fullmatch(f"(?:{_PART})+", digits):
            raise BadTask(f"time: invalid duration {said[:40]!r}")
        said = sign * sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(_PART, digits))
    if isinstance(said, bool) or not isinstance(said, int | float):
        raise BadTask("keep_alive must be a number of seconds or a duration")
    return float(said) if said >= 0 else math.inf


def normal_name(model: str) -> str:
    """A name with its tag; `latest` goes without saying."""
    return model if ":" in model else f"{model}:latest"


class OllamaForm:
    """Answers of `/api/chat` and `/api/generate`: one JSON object a line."""

    stream_type: ClassVar[str] = "application/x-ndjson"

    def __init__(self, task: Task, endpoint: Endpoint, now: datetime) -> None:
        self._endpoint = endpoint
        self._base = {"model": task.model, "created_at": now.isoformat().replace("+00:00", "Z")}
        hole = "\0"
        self._before, self._after = self._line(hole, done=False).split(to_json(hole))

    def begin(self) -> bytes:
        return b""

    def piece(self, token: str) -> bytes:
        return self._before + text.quoted(token) + self._after

    def end(self, answer: Answer, timing: Timing, /, *, marked: bool) -> bytes:
        return self._last("", answer, timing) if marked else b""

    def error(self, message: str) -> bytes:
        return to_json({"error": message}) + b"\n"

    def refusal(self, _status: int, message: str, /) -> bytes:
        return to_json({"error": message})

    def whole(self, answer: Answer, timing: Timing, /) -> bytes:
        return self._last(answer.text, answer, timing)

    def nothing_asked(self, *, unload: bool) -> bytes:
        """The answer to a request that only loads or unloads the model."""
        return self._line("", done=True, done_reason="unload" if unload else "load")

    def _last(self, said: str, answer: Answer, timing: Timing) -> bytes:
        return self._line(said, done=True, done_reason=answer.finish, **_numbers(answer, timing))

    def _line(self, said: str, **fields: Any) -> bytes:
        content: Json = {"response": said}
        if self._endpoint == "chat":
            content = {"message": {"role": "assistant", "content": said}}
        return to_json({**self._base, **content, **fields}) + b"\n"


def _read(body: Json, prompt: str) -> Task:
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadTask("model is required")
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise BadTask("options must be an object")
    limit = options.get("num_predict")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise BadTask('option "num_predict" must be of type integer')
    return Task(
        model=body["model"],
        prompt=prompt,
        stream=body.get("stream") is not False,
        max_tokens=limit if limit is not None and limit >= 0 else None,
        stops=stops_of(options.get("stop")),
        seed=str(options.get("seed") or ""),
        schema=_schema(body.get("format")),
    )


def _schema(wanted: Any) -> Json | None:
    if not wanted:
        return None
    if wanted == "json":
        return {}
    if not isinstance(wanted, dict):
        raise BadTask("format must be json or a schema")
    return wanted


def _numbers(answer: Answer, timing: Timing) -> dict[str, int]:
    """Zeros are left out, as Go does."""
    numbers = {
        "total_duration": timing.total_ns,
        "load_duration": 1_000_000,
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": timing.first_token_ns,
        "eval_count": answer.output_tokens,
        "eval_duration": timing.total_ns - timing.first_token_ns,
    }
    return {name: number for name, number in numbers.items() if number}
