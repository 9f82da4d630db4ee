"""How engine families differ in what they write; knows no endpoint and no engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Mapping[str, Any]
Error = Callable[[int, str], dict[str, Any]]
"""An error's body, from its status and its sentence."""

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_PYTHON_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}
_SERVER_ERRORS = 500


def openai_error(status: int, message: str) -> dict[str, Any]:
    """As OpenAI's API has it, and most others."""
    return {"error": {"message": message, "type": _kind(status), "param": None, "code": status}}


def llamacpp_error(status: int, message: str) -> dict[str, Any]:
    kind = "unavailable_error" if status == 503 else _kind(status)  # noqa: PLR2004 - Service Unavailable
    return {"error": {"code": status, "message": message, "type": kind}}


def vllm_error(status: int, message: str) -> dict[str, Any]:
    return {"error": _python_error(status, message)}


def flat_error(status: int, message: str) -> dict[str, Any]:
    """SGLang's, and that of vLLM in the past: no object around it."""
    return {"object": "error", **_python_error(status, message)}


def text_error(_status: int, message: str) -> dict[str, Any]:
    """Ollama's own: nothing but the sentence."""
    return {"error": message}


def detail_error(_status: int, message: str) -> dict[str, Any]:
    """FastAPI's."""
    return {"detail": message}


def koboldcpp_error(status: int, message: str) -> dict[str, Any]:
    kind = "service_unavailable" if status >= _SERVER_ERRORS else "bad_input"
    return {"detail": {"msg": message, "type": kind}}


def tgi_error(status: int, message: str) -> dict[str, Any]:
    kinds = {400: "validation", 422: "validation", 404: "not_found", 429: "overloaded"}
    return {"error": message, "error_type": kinds.get(status, "generation")}


def anthropic_error(status: int, message: str) -> dict[str, Any]:
    kinds = {**_KINDS, 529: "overloaded_error"}
    kind = kinds.get(status, "api_error" if status >= _SERVER_ERRORS else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


@dataclass(frozen=True, slots=True)
class Style:
    """How a family writes OpenAI's API.

    Attributes:
        members: what else is in each chunk and body.
        choice_members: what else is in each choice.
        first_content: the content of a chat's first delta.
        comment: what a stream begins with.
        usage: where a stream counts its tokens: in an event of its own without choices, beside the finish
            reason, beside a delta that says nothing, or nowhere.
        counts_unasked: also for a client that did not ask.
        has_timings: llama.cpp's, beside the usage.
        is_marked: streams of chat and completions end with `[DONE]`.
        error: the body of a refusal.
        event_error: an error inside a stream.
        tells_sizes: a prompt that is too long is refused with its length, as llama.cpp does.
    """

    members: Json = field(default_factory=dict)
    choice_members: Json = field(default_factory=dict)
    first_content: str | None = ""
    comment: bytes = b""
    usage: Literal["event", "finish", "delta", "nowhere"] = "event"
    counts_unasked: bool = False
    has_timings: bool = False
    is_marked: bool = True
    error: Error = openai_error
    event_error: Error = openai_error
    tells_sizes: bool = False


PLAIN = Style(tells_sizes=True)


def _kind(status: int) -> str:
    return _KINDS.get(status, "invalid_request_error" if status < _SERVER_ERRORS else "server_error")


def _python_error(status: int, message: str) -> dict[str, Any]:
    kind = _PYTHON_KINDS.get(status, "InternalServerError" if status >= _SERVER_ERRORS else "BadRequestError")
    return {"message": message, "type": kind, "param": None, "code": status}
