"""What may come before an answer: blanks, and comments that keep a connection alive; knows no clock."""

import re
from typing import Final

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOTHING_YET: Final = re.compile(rb"\A(?:[ \t\r\n]++|:[^\r\n]*+[\r\n])++")


class KeepAlive:
    """Is fed an answer from its first byte on, in any pieces, until it has begun.

    Engines and proxies say so that they are still at work: `: ping` in a stream of events, blanks before
    a document. That is a sign of life, and not the first byte of an answer. Nor is a byte order mark, as
    servers write it that hold their answers for files: no reader of JSON takes it.
    """

    def __init__(self) -> None:
        self._is_in_comment = False
        self._mark: bytes | None = b""  # of the byte order mark, what came; None once it is settled

    def skip(self, data: bytes) -> bytes:
        """The answer from its first byte on; empty until that has come."""
        if self._mark is not None:
            data, self._mark = self._mark + data, None
            if len(data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(data):
                self._mark = data
                return b""
            data = data.removeprefix(_BYTE_ORDER_MARK)
        text = b":" + data if self._is_in_comment else data
        rest = _NOTHING_YET.sub(b"", text)
        self._is_in_comment = rest.startswith(b":")
        return b"" if self._is_in_comment else rest
