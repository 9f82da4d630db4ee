"""Anthropic's API, `/v1/messages`: requests read, answers written; knows no HTTP server.

A tool is never called: this API seldom demands one.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from provider_agent.simulator import text
from provider_agent.simulator.forms import Timing, to_json
from provider_agent.simulator.openai_tasks import content_text, count_of, role_of, stops_of
from provider_agent.simulator.style import Json, anthropic_error
from provider_agent.simulator.task import Answer, BadTask, Task

_HOLE = "\0"
_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def read_messages(body: Json) -> Task:
    """A body of `/v1/messages`. Raises BadTask."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadTask("messages must be a list with at least one message")
    limit = count_of(body.get("max_tokens"), "max_tokens")
    if limit is None:
        raise BadTask("max_tokens is required")
    parts = [f"{role_of(message)}\n{content_text(message.get('content'))}" for message in messages]
    return Task(
        model=str(body.get("model", "")),
        prompt="\n".join([content_text(body.get("system")), *parts]).strip(),
        stream=body.get("stream") is True,
        max_tokens=limit,
        stops=stops_of(body.get("stop_sequences")),
    )


class MessagesForm:
    """Answers of `/v1/messages`: named events; the last is `message_stop`."""

    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def __init__(self, task: Task, answer_id: str) -> None:
        self._base = {"id": f"msg_{answer_id}", "type": "message", "role": "assistant", "model": task.model}
        self._prompt_tokens = text.count_tokens(task.prompt)
        delta = {"type": "text_delta", "text": _HOLE}
        self._before, self._after = named("content_block_delta", index=0, delta=delta).split(to_json(_HOLE))

    def begin(self) -> bytes:
        message = self._message([], None, output_tokens=0)
        block = {"type": "text", "text": ""}
        start = named("message_start", message=message)
        return start + named("content_block_start", index=0, content_block=block) + named("ping")

    def piece(self, token: str) -> bytes:
        return self._before + text.quoted(token) + self._after

    def end(self, answer: Answer, _timing: Timing, /, *, marked: bool) -> bytes:
        delta = {"stop_reason": _REASONS[answer.finish], "stop_sequence": None}
        usage = {"output_tokens": answer.output_tokens}
        last = named("content_block_stop", index=0) + named("message_delta", delta=delta, usage=usage)
        return last + (named("message_stop") if marked else b"")

    def error(self, message: str) -> bytes:
        return b"event: error\ndata: " + to_json(anthropic_error(500, message)) + b"\n\n"

    def refusal(self, status: int, message: str, /) -> bytes:
        return to_json(anthropic_error(status, message))

    def whole(self, answer: Answer, _timing: Timing, /) -> bytes:
        content = [{"type": "text", "text": answer.text}]
        return to_json(self._message(content, _REASONS[answer.finish], output_tokens=answer.output_tokens))

    def _message(self, content: Sequence[Json], reason: str | None, *, output_tokens: int) -> dict[str, Any]:
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": output_tokens}
        return {
            **self._base,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }


def named(event: str, **members: Any) -> bytes:
    """An event that says its name twice, as this API and OpenAI's responses do."""
    return f"event: {event}\n".encode() + b"data: " + to_json({"type": event, **members}) + b"\n\n"
