"""Receives a client's body, and reads of it only what routing needs; it goes on as it came."""

import asyncio
from codecs import BOM_UTF8
from dataclasses import dataclass
from itertools import accumulate

import msgspec
from aiohttp import web
from msgspec import Raw

from provider_agent.coordinator.http.errors import RequestError

BODY_PATIENCE_S = 30.0
"""How long a body may stand still before its request is given up."""

MAX_NESTING = 128
"""Deeper than any tool schema; a body that some peer cannot decode would leave its job without an outcome."""

MAX_BRACKETS = 1_000_000
"""So that counting them stays in the milliseconds."""


class _Body(msgspec.Struct):
    """An ordinary body, read in one step; what is out of order is named by reading it member by member."""

    model: str
    stream: bool | None = None


_body = msgspec.json.Decoder(_Body)
_members = msgspec.json.Decoder(dict[str, Raw])
_model = msgspec.json.Decoder(str)
_stream = msgspec.json.Decoder(bool | None)

_OPENING, _CLOSING = b"[{", b"]}"
_SIGNS = bytes.maketrans(_OPENING + _CLOSING, b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(_OPENING + _CLOSING))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for."""

    model_id: str
    stream: bool


async def receive_body(request: web.Request, patience_s: float = BODY_PATIENCE_S) -> bytes:
    """The whole body, decompressed; however slowly it comes, as long as it comes.

    A byte order mark, which Windows puts before what it writes into files, is left out: engines differ
    about it, and it says nothing.

    Raises:
        RequestError: it stood still for `patience_s`, is too large, or cannot be decompressed.
    """
    content = request.content
    parts: list[bytes] = []
    left_bytes = request.client_max_size
    try:
        while not content.is_eof():  # an ordinary body has come with its head
            async with asyncio.timeout(patience_s):
                parts.append(await content.readany())
            left_bytes -= len(parts[-1])
            if left_bytes < 0:
                break
        parts.append(content.read_nowait())
    except TimeoutError:
        raise RequestError(408, "request_timeout", "the rest of the request body did not come") from None
    except web.RequestPayloadError:
        raise RequestError(400, "invalid_body", "the request body cannot be decompressed") from None
    if left_bytes < len(parts[-1]):
        raise RequestError(413, "request_too_large", "the request body is too large")
    return (parts[0] if len(parts) == 1 else b"".join(parts)).removeprefix(BOM_UTF8)


def read_body(body: bytes, *, streams_unless_told: bool = False) -> Wanted:
    """What this body asks for; `streams_unless_told`: by not saying `stream`, too.

    It is sent to an agent inside a text message, so it must be JSON and UTF-8 as a whole: else a
    peer would have to close the connection, and every job on it.

    Raises:
        RequestError: it is no such body; the sentence names the field.
    """
    try:
        body.decode()
        wanted = _body.decode(body)
    except UnicodeDecodeError:
        raise RequestError(400, "invalid_json", "the request body is not UTF-8") from None
    except msgspec.ValidationError:
        return _read_members(body, streams_unless_told)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None
    _check_nesting(body)
    return Wanted(wanted.model, streams_unless_told if wanted.stream is None else wanted.stream)


def _read_members(body: bytes, streams_unless_told: bool) -> Wanted:
    """The same for a body that is not as expected; finds out why."""
    try:
        members = _members.decode(body)
    except msgspec.ValidationError:
        raise RequestError(400, "invalid_json", "the request body is not a JSON object") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None
    _check_nesting(body)
    return Wanted(_model_of(members), _stream_of(members, streams_unless_told))


def _not_json(error: Exception) -> RequestError:
    why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
    return RequestError(400, "invalid_json", f"the request body is not valid JSON ({why})")


def _check_nesting(body: bytes) -> None:
    if nesting(body) > MAX_NESTING:
        raise RequestError(
            400, "invalid_json", f"the request body is nested deeper than {MAX_NESTING} levels"
        )


def _model_of(members: dict[str, Raw]) -> str:
    if "model" not in members:
        raise RequestError(400, "missing_required_parameter", "the parameter model is missing", param="model")
    try:
        return _model.decode(members["model"])
    except msgspec.ValidationError:
        raise RequestError(400, "invalid_type", "the parameter model must be text", param="model") from None


def _stream_of(members: dict[str, Raw], otherwise: bool) -> bool:
    try:
        said = _stream.decode(members["stream"]) if "stream" in members else None
        return otherwise if said is None else said
    except msgspec.ValidationError:
        raise RequestError(
            400, "invalid_type", "the parameter stream must be true or false", param="stream"
        ) from None


def nesting(body: bytes) -> int:
    """How deep the brackets of valid JSON nest, or a bound that is no deeper than is allowed anyway.

    Works on bytes alone, at C speed: without escapes, every second piece between quotes is text.
    """
    bound = body.count(b"[") + body.count(b"{")
    if bound <= MAX_NESTING:
        return bound
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    signs = outside.translate(_SIGNS, _NO_BRACKETS)
    if len(signs) > MAX_BRACKETS:
        raise RequestError(400, "invalid_json", f"the request body has more than {MAX_BRACKETS} brackets")
    return max(accumulate(memoryview(signs).cast("b")), default=0)
