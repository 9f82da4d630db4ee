"""Events of a stream that differ in nothing but the text of a token; knows no stream.

An engine writes the same JSON around each token. Once one such event has been read, and said nothing that
matters, the next ones need not be: as long as nothing in their text could end it.
"""

import re
from typing import Final, NamedTuple, Self

_TEXT: Final = re.compile(rb'"(?:content|text|reasoning_content|reasoning)": ?"')
_ENDS_TEXT: Final = b'"\r\n'
_end_in: Final = re.compile(rb'["\r\n]').search  # finding nothing is cheap: no match object is made
_BACKSLASH: Final = ord("\\")


class Pattern(NamedTuple):
    """What comes before the text of each event, and after it.

    Attributes:
        around: from one text to the next, where event follows event.
        ends: how many bytes of it could end a text.
    """

    before: bytes
    after: bytes
    around: bytes
    ends: int

    @classmethod
    def of(cls, event: bytes) -> Self | None:
        """The pattern of one whole event; None if it has no text, or an odd one."""
        name = _TEXT.search(event)
        end = event.find(b'"', name.end()) if name else -1
        if name is None or end < 0 or event[end - 1] == _BACKSLASH:
            return None
        before, after = event[: name.end()], event[end:]
        return cls(before, after, after + before, len(before + after) - len(_without_ends(before + after)))

    def fits_all(self, events: bytes) -> bool:
        """These are events of the pattern, one after the other."""
        first, last = len(self.before), len(events) - len(self.after)
        if first > last or not (events.startswith(self.before) and events.endswith(self.after)):
            return False
        count = events.count(self.around, first, last) + 1
        if len(events) - len(_without_ends(events)) != count * self.ends:
            return False
        return events.find(b"\\") < 0 or events.find(b"\\" + self.after) < 0


def is_plain(events: bytes, start: int, end: int) -> bool:
    """Nothing in there ends a text."""
    return start <= end and _end_in(events, start, end) is None and events[end - 1] != _BACKSLASH


def _without_ends(data: bytes) -> bytes:
    return data.translate(None, _ENDS_TEXT)
