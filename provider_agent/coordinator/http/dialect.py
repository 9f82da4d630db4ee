"""How each API speaks where it is us who speak: errors, and to a stream that waits; knows no request.

OpenAI's and Anthropic's streams are server-sent events, Ollama's are lines of JSON.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from provider_agent.protocol.errors import ErrorCode

ErrorForm = Callable[[int, str | None, str, str | None], bytes]
"""From status, code, sentence and the parameter at fault to the JSON that clients read."""

_FIRST_SERVER_ERROR = 500
_NAMES_AT_OPENAI = {ErrorCode.MODEL_NOT_LOADED.value: "model_not_found"}
_TYPES_AT_OPENAI = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_TYPES_AT_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What clients of one API expect.

    Attributes:
        error: the form of an error.
        stream_type: what a stream is to them.
        stream_types: what an engine may call it; in protocol 2 it calls it nothing.
        waiting: says that an answer lives of which nothing has come yet; no reader takes it for a part of it.
        piece_end: what ends an event or line.
        error_begin: what stands before an error that is one.
    """

    error: ErrorForm
    stream_type: str
    stream_types: frozenset[str]
    waiting: bytes
    piece_end: bytes
    error_begin: bytes

    def may_be_stream(self, content_type: str) -> bool:
        """Whether an answer of this type is a stream, as far as is known by now."""
        return content_type.partition(";")[0].strip().lower() in self.stream_types


class _OpenAIError(msgspec.Struct, frozen=True):
    """What stands under `error`."""

    message: str
    type: str
    param: str | None
    code: str | None


def _kind(status: int, types: Mapping[int, str], server_error: str) -> str:
    return types.get(status, server_error if status >= _FIRST_SERVER_ERROR else "invalid_request_error")


def _openai_error(status: int, code: str | None, message: str, param: str | None) -> bytes:
    kind = _kind(status, _TYPES_AT_OPENAI, "server_error")
    error = _OpenAIError(message, kind, param, _NAMES_AT_OPENAI.get(code or "", code))
    return msgspec.json.encode({"error": error})


def _anthropic_error(status: int, _code: str | None, message: str, _param: str | None) -> bytes:
    kind = _kind(status, _TYPES_AT_ANTHROPIC, "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def _ollama_error(_status: int, _code: str | None, message: str, _param: str | None) -> bytes:
    return msgspec.json.encode({"error": message})


OPENAI = Dialect(
    error=_openai_error,
    stream_type="text/event-stream",
    stream_types=frozenset({"", "text/event-stream"}),
    waiting=b": waiting for the engine\n\n",
    piece_end=b"\n\n",
    error_begin=b"data: ",
)
ANTHROPIC = Dialect(
    error=_anthropic_error,
    stream_type=OPENAI.stream_type,
    stream_types=OPENAI.stream_types,
    waiting=b'event: ping\ndata: {"type": "ping"}\n\n',
    piece_end=b"\n\n",
    error_begin=b"event: error\ndata: ",
)
# Clients read line by line, and an empty line is no JSON to them: only a blank before a line is nothing.
# Where there is nothing to stream, as when a model is only to be loaded, Ollama answers with one bare object,
# which is a line, too.
OLLAMA = Dialect(
    error=_ollama_error,
    stream_type="application/x-ndjson",
    stream_types=frozenset(
        {"", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/json"}
    ),
    waiting=b" ",
    piece_end=b"\n",
    error_begin=b"",
)


def dialect_of(path: str) -> Dialect:
    """Whose clients ask there; where none of ours is, OpenAI's are the most."""
    if path == "/api" or path.startswith("/api/"):
        return OLLAMA
    return ANTHROPIC if path.startswith("/v1/messages") else OPENAI
