"""An engine's answer that is one JSON document; knows no socket.

It is held until it is whole, so that a bad one fails before its first byte. A document beyond a
limit is relayed as it comes, and its verdict follows.
"""

import json
import re
from itertools import accumulate
from typing import Any, Final

from provider_agent.backends import facts, failures, lenient
from provider_agent.backends.base import BackendError, BackendFailed, StreamTruncated, Usage

MAX_HELD_BYTES: Final = 1024 * 1024
_EDGE_BYTES: Final = 16 * 1024
"""Where usage is looked for in a document that is too long to hold: llama.cpp has it first, others last."""

_WHITESPACE: Final = b" \t\r\n"
_PIECE_BYTES: Final = 4096
_SIGN: Final = re.compile(rb'\\["\\]|["{}\[\]]')
_SIGNS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_USAGE: Final = re.compile(r'"usage"\s*:\s*(?=\{)')


class DocumentScanner:
    """A `Scanner` (see `stream.py`) of one JSON object. The end: its last brace.

    A list is one where the endpoint has such answers: SGLang's to `/v1/rerank`, llama.cpp's to `texts`.
    """

    def __init__(self, *, may_be_list: bool = False) -> None:
        self._beginnings = (b"{", b"[") if may_be_list else (b"{",)
        self.ended = False
        self.usage = Usage()
        self._failure: BackendError | None = None
        self._nesting = Nesting()
        self._began = False
        self._length_bytes = 0
        self._held = bytearray()  # all of it; of a long one only the head and, apart, the tail
        self._tail = bytearray()
        self._is_closed = False

    def feed(self, data: bytes) -> bytes:
        if self.ended:
            return self._after_end(data)
        if not self._began and not self._begins_well(data):
            return b""
        end = self._nesting.feed(data)
        body = data if end is None else data[:end]
        relay = self._keep(body)
        if end is None:
            return relay
        self.ended = True
        relay += self._judge()
        return b"" if self._failure is not None else relay + self._after_end(data[end:])

    def finish(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self.ended:
            return b""
        if not self._began:
            raise BackendFailed("the engine's answer is empty")
        raise StreamTruncated("the engine's answer stopped before its end")

    @property
    def _is_long(self) -> bool:
        return self._length_bytes > MAX_HELD_BYTES

    def _begins_well(self, data: bytes) -> bool:
        text = data.lstrip(_WHITESPACE)
        self._began = bool(text)
        if text and not text.startswith(self._beginnings):
            self._failure = BackendFailed("the engine's answer is no JSON object")
            self.ended = True
            return False
        return True

    def _keep(self, body: bytes) -> bytes:
        """Hold the document while it is short; what is to be relayed of a long one."""
        was_long = self._is_long
        self._length_bytes += len(body)
        if not self._is_long:
            self._held += body
            return b""
        if not was_long:
            body = bytes(self._held) + body
            del self._held[_EDGE_BYTES:]
            self._held += body[len(self._held) : _EDGE_BYTES]
        self._tail += body[-_EDGE_BYTES:]
        del self._tail[:-_EDGE_BYTES]
        return body

    def _judge(self) -> bytes:
        """The document is whole: read what it says. Gives the bytes that were held."""
        if self._is_long:
            for edge in (self._held, self._tail):
                self.usage = facts.with_usage(self.usage, _usage_in_part(bytes(edge)))
            return b""
        document = bytes(self._held)
        said = facts.read(document)
        is_json = said is not None or lenient.is_json(document)
        said = said or facts.make_out(document)
        if said is not None:
            self.usage = said.usage_after(self.usage)
        if said is not None and said.failure is not None:
            self._failure = failures.in_answer(said.failure)
        elif not is_json:
            self._failure = BackendFailed("the engine's answer is no valid JSON")
        return document

    def _after_end(self, data: bytes) -> bytes:
        """A line end after the last brace is kept; anything else does not belong to it."""
        if self._failure is not None or self._is_closed:
            return b""
        tail = data[: len(data) - len(data.lstrip(_WHITESPACE))]
        self._is_closed = len(tail) < len(data)
        return tail


class Nesting:
    """Finds the end of a JSON value by its brackets, however its bytes are split.

    Works at C speed, since an answer may be nothing but brackets: without escapes, every second
    stretch between quotes is text. Only the few bytes in which the value ends are looked at one by one.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_text = False
        self._backslash = b""  # the last byte so far, if it may escape the next one

    def feed(self, data: bytes) -> int | None:
        """Where in `data` the value ends: the index after its last bracket; None if it goes on."""
        for start in range(0, len(data), _PIECE_BYTES):
            end = self._feed_piece(data[start : start + _PIECE_BYTES])
            if end is not None:
                return start + end
        return None

    def _feed_piece(self, data: bytes) -> int | None:
        carried = len(self._backslash)
        piece = self._backslash + data
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        size = len(piece) - backslashes % 2
        piece, self._backslash = piece[:size], piece[size:]
        stretches = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        signs = b"".join(stretches[self._is_in_text :: 2]).translate(_SIGNS, _NO_BRACKETS)
        closing = signs.count(b"\xff")
        if closing >= self._depth and self._reaches_end(signs):
            return self._end_in(piece) - carried
        self._depth += len(signs) - 2 * closing
        self._is_in_text ^= len(stretches) % 2 == 0
        return None

    def _reaches_end(self, signs: bytes) -> bool:
        return min(accumulate(memoryview(signs).cast("b")), default=1) <= -self._depth

    def _end_in(self, piece: bytes) -> int:
        """Where the value ends in the piece in which it does."""
        depth, is_in_text = self._depth, self._is_in_text
        for sign in _SIGN.finditer(piece):
            match sign[0]:
                case b'"':
                    is_in_text = not is_in_text
                case b"{" | b"[" if not is_in_text:
                    depth += 1
                case b"}" | b"]" if not is_in_text:
                    depth -= 1
                    if depth <= 0:
                        return sign.end()
        raise AssertionError("the value does not end in this piece")


def _usage_in_part(part: bytes) -> dict[str, Any]:
    """The last usage object in a piece of JSON. Inside a text the quotes would be escaped."""
    text = part.decode("utf-8", "replace")
    for match in reversed(list(_USAGE.finditer(text))):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError:
            continue
        return value if isinstance(value, dict) else {}
    return {}
