"""OpenAI's API: answers written in the style of an engine family; knows no HTTP server and no family."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from provider_agent.simulator import text
from provider_agent.simulator.forms import Timing, to_json
from provider_agent.simulator.style import PLAIN, Json, Style
from provider_agent.simulator.task import Answer, PromptTooLong, Task

DONE = b"data: [DONE]\n\n"
_HOLE = "\0"
_NS_PER_MS = 1e6


class _OpenAiForm(ABC):
    """What is the same at both endpoints."""

    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def __init__(self, task: Task, base: Json, chunk_type: str, style: Style) -> None:
        self._task = task
        self._style = style
        self._base = {**base, **style.members}
        self._chunk_base = {**self._base, "object": chunk_type}
        self._before, self._after = self._event(self._saying(_HOLE)).split(to_json(_HOLE))

    def piece(self, token: str) -> bytes:
        """An event that was cut open where its token goes: a token costs two concatenations."""
        return self._before + text.quoted(token) + self._after

    def end(self, answer: Answer, timing: Timing, /, *, marked: bool) -> bytes:
        counted: Json = {}
        if self._task.include_usage or self._style.counts_unasked:
            counted = self._counts(answer, timing)
        beside = counted if self._style.usage == "finish" else {}
        parts = [self._event(self._saying(None), self._finish(answer), **beside)]
        if counted and self._style.usage == "event":
            parts.append(sse({**self._chunk_base, "choices": [], **counted}))
        elif counted and self._style.usage == "delta":
            parts.append(self._event(self._saying(""), **counted))
        return b"".join(parts) + (DONE if marked and self._style.is_marked else b"")

    def error(self, message: str) -> bytes:
        return sse(self._style.event_error(500, message))

    def refusal(self, status: int, message: str, /) -> bytes:
        return to_json(self._style.error(status, message))

    @abstractmethod
    def _saying(self, said: str | None) -> Json:
        """The part of a choice that holds the text of a token; None for the end."""

    def _finish(self, answer: Answer) -> str:
        return answer.finish

    def _choice(self, said: Json, finish_reason: str | None) -> Json:
        more = self._style.choice_members
        return {"index": 0, **said, "logprobs": None, **more, "finish_reason": finish_reason}

    def _event(self, said: Json, finish_reason: str | None = None, **members: Any) -> bytes:
        return sse({**self._chunk_base, "choices": [self._choice(said, finish_reason)], **members})

    def _counts(self, answer: Answer, timing: Timing) -> Json:
        timings = {"timings": _timings(answer, timing)} if self._style.has_timings else {}
        return {"usage": usage(answer), **timings}


class ChatForm(_OpenAiForm):
    """Answers of `/v1/chat/completions`."""

    def __init__(self, task: Task, answer_id: str, created_s: int, style: Style = PLAIN) -> None:
        base = {"id": f"chatcmpl-{answer_id}", "created": created_s, "model": task.model}
        super().__init__(task, base, "chat.completion.chunk", style)

    def begin(self) -> bytes:
        delta: dict[str, Any] = {"role": "assistant", "content": self._style.first_content}
        if self._task.tool is not None:
            delta.update(content=None, tool_calls=[{"index": 0, **self._call("")}])
        return self._style.comment + self._event({"delta": delta})

    def whole(self, answer: Answer, timing: Timing, /) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if self._task.tool is not None:
            message.update(content=None, tool_calls=[self._call(answer.text)])
        choice = self._choice({"message": message}, self._finish(answer))
        body = {**self._base, "object": "chat.completion", "choices": [choice]}
        return to_json({**body, **self._counts(answer, timing)})

    def _saying(self, said: str | None) -> Json:
        if said is None:
            return {"delta": {}}
        if self._task.tool is not None:
            return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": said}}]}}
        return {"delta": {"content": said}}

    def _finish(self, answer: Answer) -> str:
        return "tool_calls" if self._task.tool is not None and answer.finish == "stop" else answer.finish

    def _call(self, arguments: str) -> Json:
        name = "" if self._task.tool is None else self._task.tool.name
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{self._base['id']}", "type": "function", "function": function}


class CompletionForm(_OpenAiForm):
    """Answers of `/v1/completions`."""

    def __init__(self, task: Task, answer_id: str, created_s: int, style: Style = PLAIN) -> None:
        base = {"id": f"cmpl-{answer_id}", "created": created_s, "model": task.model}
        super().__init__(task, base, "text_completion", style)

    def begin(self) -> bytes:
        return self._style.comment

    def whole(self, answer: Answer, timing: Timing, /) -> bytes:
        choice = self._choice({"text": answer.text}, answer.finish)
        return to_json({**self._chunk_base, "choices": [choice], **self._counts(answer, timing)})

    def _saying(self, said: str | None) -> Json:
        return {"text": said or ""}


def too_long(error: PromptTooLong, style: Style) -> dict[str, Any]:
    """The refusal of a prompt, as llama-server says it where the style does."""
    body = style.error(400, str(error))
    if style.tells_sizes:
        sizes = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context_window}
        body["error"].update(type="exceed_context_size_error", **sizes)
    return body


def usage(answer: Answer) -> dict[str, int]:
    prompt, output = answer.prompt_tokens, answer.output_tokens
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def sse(value: Any) -> bytes:
    return b"data: " + to_json(value) + b"\n\n"


def _timings(answer: Answer, timing: Timing) -> dict[str, float]:
    return {
        "prompt_n": answer.prompt_tokens,
        "prompt_ms": timing.first_token_ns / _NS_PER_MS,
        "predicted_n": answer.output_tokens,
        "predicted_ms": (timing.total_ns - timing.first_token_ns) / _NS_PER_MS,
    }
