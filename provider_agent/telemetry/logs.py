"""How the program logs: one line per event, as JSON or for a terminal; knows no event.

Rules:

1. Nothing that a client or an operator would call private gets out: a field is judged by its name
   (`PRIVATE_FIELDS`), text by what it looks like, and an object is only named by its class.
2. A line that cannot be written (closed stream, full disk) is lost; whoever logged it is not disturbed.
3. Third-party libraries are heard from WARNING on: below that, they print what they send.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import date
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Literal, TextIO, cast

import orjson

from provider_agent.telemetry.unseen import unseen

with unseen("rich", "greenlet"):  # structlog would load them for what we never use: 6 MB
    import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

__all__ = ["FilteringBoundLogger", "Format", "configure", "get_logger", "set_level"]

Format = Literal["auto", "console", "json"]

_SECRETS = frozenset({
    "api_key", "apikey", "authorization", "cookie", "enrollment_code", "passwd", "password", "private_key",
    "proxy_authorization", "seed", "secret", "set_cookie", "signature", "token", "x_api_key",
})  # fmt: skip
_CLIENT_WORDS = frozenset({
    "arguments", "body", "chunk", "completion", "content", "data", "headers", "input", "messages", "payload",
    "prompt", "request", "response", "system", "text", "tools",
})  # fmt: skip

PRIVATE_FIELDS = _SECRETS | _CLIENT_WORDS
PRIVATE_SUFFIXES = ("_api_key", "_secret", "_password", "_token", "_body", "_prompt")

MAX_TEXT = 1024
"""The longest text of one field, in characters: a prompt that slipped in is at least not whole."""

MAX_TRACEBACK = 8192
MAX_DEPTH = 4

_LEFT_OUT = "[left out]"
_CREDENTIALS = re.compile(
    r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"  # an Authorization header
    r"|(?<=://)[^/\s@]+@"  # user and password in a URL
    r"|\b(sk|pk|pa|ghp|hf)[-_][\w-]{12,}"  # keys as they are commonly written
    r"|(?<=key=)[^\s&]+|(?<=token=)[^\s&]+"
)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that may be made at import time; it follows every later `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def configure(level: str, fmt: Format, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; `auto` is `console` on a terminal, else `json`.

    Raises:
        ValueError: there is no such level.
    """
    sink = stream if stream is not None else sys.stderr
    wrapper = _wrapper_at(level)
    console = fmt == "console" or (fmt == "auto" and sink.isatty())
    structlog.configure(
        processors=[*_COMMON, *(_for_people(sink) if console else (_render_json,))],
        wrapper_class=wrapper,
        logger_factory=lambda name="": _Sink(sink, name),
        # Loggers live in modules: one that was cached would keep the sink and level of an older set-up.
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


def set_level(level: str) -> None:
    """From now on, say as much as this; form and stream stay. Raises ValueError as `configure` does."""
    structlog.configure(wrapper_class=_wrapper_at(level))


def _wrapper_at(level: str) -> type[FilteringBoundLogger]:
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"{level!r} is no log level")
    return structlog.make_filtering_bound_logger(threshold)


class _Sink:
    """Writes lines to a stream, in one call each, and never raises."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.name = name
        self._stream = stream
        self._buffer = getattr(stream, "buffer", None)

    def msg(self, line: str | bytes) -> None:
        try:
            if self._buffer is None:
                self._stream.write(_text(line) + "\n")
            else:
                self._buffer.write(_bytes(line) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return

    debug = info = warning = error = critical = exception = fatal = msg


class _Forward(logging.Handler):
    """Carries what libraries say through the standard library into our log, however they say it."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # a library may have levels of its own
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit its words
            message = str(record.msg)
        get_logger(record.name).log(level, "library_message", message=message, exc_info=record.exc_info)


def _text(line: str | bytes) -> str:
    return line if isinstance(line, str) else line.decode()


def _bytes(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode(errors="backslashreplace")


def _add_logger_name(logger: object, _method: str, event: EventDict) -> EventDict:
    event["logger"] = getattr(logger, "name", "")
    return event


def _leave_out_private(_logger: object, _method: str, event: EventDict) -> EventDict:
    traceback = event.pop("exception", None)
    clean = {str(name): _presentable(str(name), value, MAX_DEPTH) for name, value in event.items()}
    if traceback is not None:
        clean["exception"] = _scrub(str(traceback), MAX_TRACEBACK)
    return clean


def _presentable(name: str, value: object, depth: int) -> object:
    """The value as it may be logged under this name.

    1. Numbers, booleans and nothing say too little to be private.
    2. A private name hides whatever stands under it.
    3. Text is scrubbed and cut; an exception is its class and its scrubbed sentence.
    4. Collections are cleaned member by member, down to `MAX_DEPTH`.
    5. Bytes are counted, and any other object is only named: its repr might hold a request.
    """
    if value is None or isinstance(value, bool | int | float):  # 1
        return value
    if _is_private(name):  # 2
        return _LEFT_OUT
    if isinstance(value, str | Enum | PurePath | date):  # 3
        return _scrub(str(value.value if isinstance(value, Enum) else value), MAX_TEXT)
    if isinstance(value, BaseException):
        return _scrub(f"{type(value).__name__}: {value}", MAX_TEXT)
    return _collection(name, value, depth - 1) if depth else _LEFT_OUT


def _collection(name: str, value: object, depth: int) -> object:
    if isinstance(value, Mapping):  # 4
        return {str(key): _presentable(str(key), member, depth) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_presentable(name, member, depth) for member in value]
    if isinstance(value, bytes | bytearray | memoryview):  # 5
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"


@lru_cache(maxsize=1024)  # the names of fields are few, and most are our own
def _is_private(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return plain in PRIVATE_FIELDS or plain.endswith(PRIVATE_SUFFIXES)


def _scrub(text: str, longest: int) -> str:
    clean = _CREDENTIALS.sub(_LEFT_OUT, text)
    return clean if len(clean) <= longest else f"{clean[:longest]}… ({len(clean) - longest} more)"


def _render_json(_logger: object, _method: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(event).encode()


def _for_people(stream: TextIO) -> tuple[Processor, ...]:
    """A terminal is narrow, and who reads it has a clock on the wall."""
    return (
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        _leave_out_idle,
        structlog.dev.ConsoleRenderer(
            0,  # the event is not padded; this parameter has had several names
            colors=stream.isatty() and "NO_COLOR" not in os.environ,
            # Not the default one: it prints the local variables of each frame, prompts among them.
            exception_formatter=structlog.dev.plain_traceback,
            pad_level=False,
        ),
    )


def _leave_out_idle(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Fields that hold nothing, and which module of ours spoke: the event says it."""
    ours = str(event["logger"]).startswith("provider_agent.")
    return {
        name: value
        for name, value in event.items()
        if value is not None and value != "" and not (ours and name == "logger")
    }


_COMMON: tuple[Processor, ...] = (
    structlog.processors.format_exc_info,
    _leave_out_private,
    _add_logger_name,  # from here on, what is ours and need not be looked at
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
