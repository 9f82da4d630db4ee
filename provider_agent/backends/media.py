"""Whether a request would make its engine fetch something; knows no engine and sends nothing.

An engine that is given an address instead of an image looks it up from where it runs: inside the
operator's network, or on its own disk. Looked for is what any engine may read as media, so:

1. Every spelling of a name counts: escapes, and other case, since engines in Go take `Image_URL`, too.
2. A name that stands twice in an object counts twice: engines differ in which one they take.
3. Not media: plain text, and what belongs to tools (their schemas, their arguments, their quotations).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_LOCATORS: Final = frozenset({
    "image_url", "video_url", "audio_url", "file_url", "document_url",
    "image", "video", "audio", "input_audio", "file_data",
})  # fmt: skip
"""Members whose value is a text, an object with `url`, or a list of such, at one engine or another."""

_PARTS: Final = frozenset({
    "image", "video", "audio", "document", "file",
    "input_image", "input_video", "input_audio", "input_file", "image_url", "video_url", "audio_url",
})  # fmt: skip
"""Types of content that may name their `url` themselves."""

_UNREAD: Final = frozenset({
    "tools", "functions", "arguments", "parameters", "input_schema", "annotations", "citations", "metadata",
    "response_format", "format", "json_schema", "guided_json", "structured_outputs", "chat_template_kwargs",
})  # fmt: skip
"""Members in which no engine looks for media, whatever they hold."""

_TOOL_USES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Types of content whose `input` is a tool's arguments."""

_NAMES: Final = frozenset(name.encode() for name in _LOCATORS) | {b"url"}
_LONGEST_NAME: Final = max(map(len, _NAMES))
_ESCAPED: Final = re.compile(rb"\\u00[4-7]")
"""A letter of a name, or the underline."""

_DATA: Final = b"base64,"
_LONG_BYTES: Final = 1024
"""Data beyond this is not read, but cut out."""

_HARMLESS: Final = re.compile(r"\s*(?:data:|(?!//)[A-Za-z0-9+/=_\s-]*\Z)", re.IGNORECASE | re.ASCII)
"""The data itself: as a data URL, or in bare base64."""


class _Members(list[tuple[str, Any]]):
    """An object of JSON with all its members, also those that stand there twice."""


def remote_member(body: bytes) -> str | None:
    """The name of a member that names media by its address; None where there is none.

    Raises:
        ValueError: the body may hold one, and is no JSON that can be read.
    """
    body = _without_data(body)
    if not _is_suspect(body):
        return None
    try:
        root = json.loads(body, object_pairs_hook=_Members, parse_int=str, strict=False)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return next(_remote_in(root), None)


def _without_data(body: bytes) -> bytes:
    """Without what stands in long data URLs: pictures are large, and hold no quotes and no escapes."""
    pieces, start, mark = [], 0, body.find(_DATA)
    while mark >= 0:
        begin = mark + len(_DATA)
        end = body.find(b'"', begin)
        if end - begin > _LONG_BYTES and body.find(b"\\", begin, end) < 0:
            pieces.append(body[start:begin])
            start = end
        mark = body.find(_DATA, max(end, begin))
    return b"".join([*pieces, body[start:]]) if pieces else body


def _is_suspect(body: bytes) -> bool:
    """Whether a look at the members is worth its time: not in requests of plain text.

    No letter of these names has another case beyond ASCII, as `k` and `s` have.
    """
    if b"\\u" in body and _ESCAPED.search(body):
        return True
    return any(len(each) <= _LONGEST_NAME and each.lower() in _NAMES for each in body.split(b'"'))


def _remote_in(root: Any) -> Iterator[str]:
    """Names of such members. With a stack of its own, since a client chooses the depth."""
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Members):
            yield from _remote_of(value)
            waiting += _below(value)
        elif isinstance(value, list):
            waiting += value


def _remote_of(members: _Members) -> Iterator[str]:
    """Names of the object's own."""
    types = _types(members)
    for name, value in members:
        folded = name.casefold()
        is_locator = (
            folded in _LOCATORS
            or (folded == "url" and types & _PARTS)
            or (folded == "source" and isinstance(value, _Members))
        )
        if is_locator and any(_HARMLESS.match(text) is None for text in _texts(value)):
            yield folded


def _below(members: _Members) -> Iterator[Any]:
    """What is looked at next: all but what belongs to tools."""
    types = _types(members)
    is_tool_use = bool(types) and types <= _TOOL_USES
    for name, value in members:
        folded = name.casefold()
        if folded not in _UNREAD and not (is_tool_use and folded == "input"):
            yield value


def _types(members: _Members) -> set[str]:
    return {value for name, value in members if name.casefold() == "type" and isinstance(value, str)}


def _texts(value: Any) -> Iterator[str]:
    """The text itself, those in a list, and those named `url` in an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, _Members):
        for name, inner in value:
            if name.casefold() == "url":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
