"""From an engine's status or error object to a BackendError, and what of its words may be passed on."""

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BadRequest,
    EndpointUnsupported,
    ModelNotFound,
    RateLimited,
    RequestTooLarge,
    StreamFailed,
)

MAX_MESSAGE_BYTES: Final = 2048
_LONGEST_WAIT_S: Final = 3600.0
_DEEPEST: Final = 8
"""In so many layers of objects an engine's words may be wrapped: FastAPI around OpenAI's form makes four."""

_CLIENTS_FAULT: Final = range(400, 500)
_ANY_FAULT: Final = range(400, 600)

_OWN_WORDS: Mapping[type[BackendError], str] = {
    AuthRejected: "the engine does not accept this agent's credentials",
    BadRequest: "the engine refused the request",
    ModelNotFound: "the engine does not have that model",
    EndpointUnsupported: "the engine does not offer that endpoint",
    RequestTooLarge: "the request is too large for the engine",
    RateLimited: "the engine limits its rate",
    BackendLoading: "the engine is loading the model or busy",
    BackendFailed: "the engine failed",
}

_BY_STATUS: Mapping[int, type[BackendError]] = {
    401: AuthRejected,
    403: AuthRejected,
    404: ModelNotFound,
    405: EndpointUnsupported,
    413: RequestTooLarge,
    429: RateLimited,
    501: EndpointUnsupported,
    503: BackendLoading,
}

_KEEPS_ENGINES_WORDS: Final = (BadRequest, ModelNotFound, RequestTooLarge, RateLimited)
"""The engine's words for a rejected key may quote the key, and those for a 5xx speak of its insides."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"<>)\]]+", re.IGNORECASE)
_KEY = re.compile(
    r"(?:\bbearer\s+|\b(?:api[-_ ]?key|token|secret|password)\s*[=:]\s*)['\"]?[^\s'\",;]{4,}"
    r"|\b(?:sk|pk|rk|hf|gsk|xai)[-_][\w-]{6,}[\w*.-]*"
    r"|\b[A-Za-z0-9+/_]{40,}={0,2}",
    re.IGNORECASE,
)
_IPV6 = re.compile(r"\[?(?<![\w:.])[0-9a-f:.]{2,64}+(?:%\w{1,32})?\]?(?::\d{1,5})?(?![\w:])", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\w.]*\d)")
_HOST_AND_PORT = re.compile(
    r"(?<![a-z0-9-])(?:localhost|(?:[a-z0-9-]{1,63}+\.){1,8}+[a-z]{2,63}+):\d{2,5}\b", re.IGNORECASE
)
_WINDOWS_PATH = re.compile(r"(?:\b[a-z]:\\|\\\\)[^\s'\"<>|:;,]+", re.IGNORECASE)
_UNIX_PATH = re.compile(r"(?<![\w/.<])(?:~|\.{1,2})?/(?!(?:v1|api)/)(?:[\w.@+-]+/[\w.@+/-]*|[\w@+-]+\.\w+)")
_QUOTED_INPUT = re.compile(r"['\"]?\b(?:input|input_value|last read)['\"]?\s*[=:].*", re.DOTALL)
_LONG_QUOTE = re.compile(r"(['\"`])(?:(?!\1).){80,}\1", re.DOTALL)


def sanitise(message: str) -> str:
    """An engine's own words without addresses, paths, keys and long quotations, as one short line.

    A validator quotes what it was given, which is the prompt: `input: …` and long quotations go. So a
    client decides what is read here, and no expression may take more than a few looks at a character.
    """
    text = message[: 4 * MAX_MESSAGE_BYTES]
    text = _QUOTED_INPUT.sub("", text)
    text = _LONG_QUOTE.sub("'…'", text)
    text = _URL.sub("<url>", text)
    text = _KEY.sub("<key>", text)
    text = _IPV4.sub("<address>", text)
    text = _IPV6.sub(_unless_no_address, text)
    text = _HOST_AND_PORT.sub("<address>", text)
    text = _WINDOWS_PATH.sub("<path>", text)
    text = _UNIX_PATH.sub("<path>", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text.encode("utf-8", "replace")[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def _unless_no_address(match: re.Match[str]) -> str:
    """A time of day has colons, too; and two alone are a grammar's, or a slice's, sooner than no address."""
    text = match[0]
    if text.strip("[]") == "::":
        return text
    for shown in (text, text.rstrip(".:")):  # what ends a sentence may follow it
        try:
            ipaddress.IPv6Address(shown.lstrip("[").partition("]")[0].partition("%")[0])
        except ValueError:
            continue
        return "<address>" + text[len(shown) :]
    return text


def of_status(status: int, *, body: bytes = b"", retry_after: str = "", now: datetime) -> BackendError:
    """The error that a status other than 2xx means; `now` makes a date in Retry-After a duration."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = BadRequest if status in _CLIENTS_FAULT else BackendFailed
    kept = sanitise(_engines_words(body)) if issubclass(kind, _KEEPS_ENGINES_WORDS) else ""
    own_words = _OWN_WORDS[kind]
    return kind(
        kept or (f"{own_words} (status {status})" if kind is BackendFailed else own_words),
        http_status=status,
        retry_after_ms=retry_after_ms(retry_after, now),
    )


def in_answer(error: object) -> StreamFailed:
    """The error that an `error` member of an answer means; its words are kept only with a 4xx code."""
    status = _status_in(error)
    kept = ""
    if status is not None and status in _CLIENTS_FAULT and _BY_STATUS.get(status) is not AuthRejected:
        kept = sanitise(next(_words_in(error), ""))
    return StreamFailed(kept or "the engine reported an error inside its answer", http_status=status)


def retry_after_ms(header: str, now: datetime) -> int | None:
    """What a Retry-After header asks for: seconds or a date; None when it says nothing readable."""
    text = header.strip()
    if not text:
        return None
    try:
        wait_s = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        wait_s = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    if not math.isfinite(wait_s):
        return None
    return round(min(max(0.0, wait_s), _LONGEST_WAIT_S) * 1000)


def _engines_words(body: bytes) -> str:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    return next(_words_in(value), "")


def _words_in(value: object, layers: int = _DEEPEST) -> Iterator[str]:
    """The message, wherever this engine puts it.

    OpenAI and most: `error.message`. Ollama: `error`. Older vLLM and SGLang: `message`.
    FastAPI: `detail`, a text or a list with `msg`.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and layers:
        for name in ("error", "message", "detail", "msg"):
            yield from _words_in(value.get(name), layers - 1)
    elif isinstance(value, list) and layers:
        for each in value[:8]:
            yield from _words_in(each, layers - 1)


def _status_in(error: object) -> int | None:
    if not isinstance(error, dict):
        return None
    for name in ("code", "status", "http_status", "status_code"):
        code = error.get(name)
        if isinstance(code, str) and code.isascii() and code.isdigit():
            code = int(code[:4])
        if isinstance(code, int) and code in _ANY_FAULT:
            return code
    return None
