"""OpenAI's API: answers written in the shape of vLLM and llama.cpp; knows no HTTP server."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from provider_agent.simulator import text
from provider_agent.simulator.forms import Timing, to_json
from provider_agent.simulator.task import Answer, PromptTooLong, Task

DONE = b"data: [DONE]\n\n"

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

Json = Mapping[str, Any]


class _OpenAiForm:
    """What is the same at every endpoint."""

    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def error(self, message: str) -> bytes:
        return sse(error_body(500, message))

    def refusal(self, status: int, message: str, /) -> bytes:
        return to_json(error_body(status, message))


class ChatForm(_OpenAiForm):
    """Answers of `/v1/chat/completions`."""

    def __init__(self, task: Task, answer_id: str, created_s: int) -> None:
        self._task = task
        self._base = {"id": f"chatcmpl-{answer_id}", "created": created_s, "model": task.model}
        key = "content" if task.tool is None else "tool_calls"
        self._before, self._after = self._around_token(key)

    def begin(self) -> bytes:
        if self._task.tool is None:
            return self._event({"role": "assistant", "content": ""})
        return self._event({"role": "assistant", "content": None, "tool_calls": [self._call("")]})

    def piece(self, token: str) -> bytes:
        return self._before + text.quoted(token) + self._after

    def end(self, answer: Answer, _timing: Timing, /, *, marked: bool) -> bytes:
        parts = [self._event({}, finish_reason=self._finish(answer))]
        if self._task.include_usage:
            chunk = {**self._base, "object": "chat.completion.chunk", "choices": [], "usage": usage(answer)}
            parts.append(sse(chunk))
        return b"".join(parts) + (DONE if marked else b"")

    def whole(self, answer: Answer, _timing: Timing, /) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if self._task.tool is not None:
            message.update(content=None, tool_calls=[self._call(answer.text, with_index=False)])
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(answer)}
        body = {**self._base, "object": "chat.completion", "choices": [choice], "usage": usage(answer)}
        return to_json(body)

    def _finish(self, answer: Answer) -> str:
        return "tool_calls" if self._task.tool is not None and answer.finish == "stop" else answer.finish

    def _call(self, arguments: str, *, with_index: bool = True) -> dict[str, Any]:
        name = "" if self._task.tool is None else self._task.tool.name
        function = {"name": name, "arguments": arguments}
        call = {"id": f"call_{self._base['id']}", "type": "function", "function": function}
        return {"index": 0, **call} if with_index else call

    def _event(self, delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse({**self._base, "object": "chat.completion.chunk", "choices": [choice]})

    def _around_token(self, key: str) -> tuple[bytes, bytes]:
        """One event, cut open where its token goes: a token costs two concatenations."""
        hole = "\0"
        delta: Json = {"content": hole}
        if key == "tool_calls":
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": hole}}]}
        before, after = self._event(delta).split(to_json(hole))
        return before, after


class CompletionForm(_OpenAiForm):
    """Answers of `/v1/completions`."""

    def __init__(self, task: Task, answer_id: str, created_s: int) -> None:
        self._task = task
        self._base = {
            "id": f"cmpl-{answer_id}",
            "object": "text_completion",
            "created": created_s,
            "model": task.model,
        }
        hole = "\0"
        self._before, self._after = self._event(hole).split(to_json(hole))

    def begin(self) -> bytes:
        return b""

    def piece(self, token: str) -> bytes:
        return self._before + text.quoted(token) + self._after

    def end(self, answer: Answer, _timing: Timing, /, *, marked: bool) -> bytes:
        parts = [self._event("", finish_reason=answer.finish)]
        if self._task.include_usage:
            parts.append(sse({**self._base, "choices": [], "usage": usage(answer)}))
        return b"".join(parts) + (DONE if marked else b"")

    def whole(self, answer: Answer, _timing: Timing, /) -> bytes:
        choice = self._choice(answer.text, answer.finish)
        return to_json({**self._base, "choices": [choice], "usage": usage(answer)})

    def _event(self, token: str, finish_reason: str | None = None) -> bytes:
        return sse({**self._base, "choices": [self._choice(token, finish_reason)]})

    @staticmethod
    def _choice(said: str, finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": said, "logprobs": None, "finish_reason": finish_reason}


def error_body(status: int, message: str) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")  # noqa: PLR2004
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def too_long_body(error: PromptTooLong) -> dict[str, Any]:
    """As llama-server says it."""
    body = error_body(400, str(error))
    sizes = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context_window}
    body["error"].update(type="exceed_context_size_error", **sizes)
    return body


def model_list(models: Sequence[str], context_window: int, created_s: int) -> dict[str, Any]:
    cards = [
        {
            "id": model,
            "object": "model",
            "created": created_s,
            "owned_by": "simulator",
            "max_model_len": context_window,
        }
        for model in models
    ]
    return {"object": "list", "data": cards}


def usage(answer: Answer) -> dict[str, int]:
    prompt, output = answer.prompt_tokens, answer.output_tokens
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def sse(value: Any) -> bytes:
    return b"data: " + to_json(value) + b"\n\n"
