"""HTTP/1.1 around an engine's answers: their heads, what is body, where each ends; knows no socket."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from httptools import HttpParserError, HttpResponseParser

MAX_HEAD_BYTES: Final = 64 * 1024

NotHttp: Final = HttpParserError
"""Raised by `feed`: these bytes are no HTTP/1.1."""


class Head(NamedTuple):
    """What comes before a body.

    Attributes:
        fields: header fields; names in lower case.
        has_end: the body's end is marked; else it is the end of the connection.
        is_persistent: the connection may be used again after this answer, says the engine.
    """

    status: int
    fields: Mapping[bytes, bytes]
    has_end: bool
    is_persistent: bool

    def text(self, name: bytes) -> str:
        """A field; what is no UTF-8 in it is replaced."""
        return self.fields.get(name, b"").decode("utf-8", "replace")


class Framing:
    """Takes one answer after another out of the bytes of a connection.

    Attributes:
        feed: gives the parser what has arrived. Raises NotHttp.
        head: None until it is whole. Interim ones (1xx) are skipped.
        pieces: the body, as far as it came; to be taken out by the reader.
        is_complete: the answer is; whatever follows unasked raises NotHttp.
        overhead_bytes: what came since the last piece without any; to be kept by the reader, for `check`.
    """

    __slots__ = (
        "_fields",
        "_is_interim",
        "_parser",
        "feed",
        "head",
        "is_complete",
        "on_body",
        "on_header",
        "overhead_bytes",
        "pieces",
    )

    def __init__(self) -> None:
        self.head: Head | None = None
        self.pieces: list[bytes] = []
        self.is_complete = False
        self.overhead_bytes = 0
        self._is_interim = False
        self._fields: dict[bytes, bytes] = {}
        # the parser calls its protocol by these names; without a step in Python where there can be none
        self.on_header = self._fields.__setitem__
        self.on_body = self.pieces.append
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # what harms nobody, and some engine may do
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.feed: Callable[[memoryview | bytes], None] = self._parser.feed_data

    def begin(self) -> None:
        """The next answer is expected."""
        self.head = None
        self.is_complete = False
        self.overhead_bytes = 0
        self.pieces.clear()
        self._fields.clear()

    def check(self) -> None:
        """Raises NotHttp when a head, or whatever else is no body, has no end."""
        if self.overhead_bytes > MAX_HEAD_BYTES:
            raise NotHttp("too much around the body")

    def release(self) -> None:
        """The connection is over: let go of the parser, which holds this object, too."""
        self._parser = None
        self.feed = _ignore

    # --- called by the parser -------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise NotHttp("an answer that nobody asked for")

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        if parser is None:
            return
        status = parser.get_status_code()
        if status < HTTPStatus.OK:
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise NotHttp("another protocol, which nobody had asked for")
            if status < HTTPStatus.CONTINUE:  # it may have a body, which would be the next one's
                raise NotHttp("a status that there is not")
            self._is_interim = True
            return
        if self.overhead_bytes and sum(map(len, fields)) + sum(map(len, fields.values())) > MAX_HEAD_BYTES:
            raise NotHttp("too long a head")  # of one that came with one read, the read is the limit
        lower = {name.lower(): value for name, value in fields.items()}
        has_end = b"content-length" in lower or _is_chunked(lower.get(b"transfer-encoding"))
        self.head = Head(status, lower, has_end, parser.should_keep_alive())
        fields.clear()

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
            self._fields.clear()
        else:
            self.is_complete = True
            if self._fields and self._parser and self.head:  # even behind the body it may say that it closes
                self.head = self.head._replace(is_persistent=self._parser.should_keep_alive())


def _is_chunked(encoding: bytes | None) -> bool:
    return encoding is not None and encoding.lower().rstrip().endswith(b"chunked")


def _ignore(_data: memoryview | bytes) -> None:
    """What still comes over a connection that is over."""
