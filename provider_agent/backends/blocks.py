"""An answer in blocks, such as events or lines, judged one by one; knows no form of block."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from provider_agent.backends.base import BackendError, BackendFailed, StreamTruncated, Usage

MAX_HELD_BYTES: Final = 1024 * 1024
"""A longer event or line is relayed without being read: memory stays bounded."""

_WHITESPACE: Final = b" \t\r\n"
_UNKNOWN: Final = Usage()


class BlockScanner(ABC):
    """A body of blocks that end in a known way, each of which is judged when it is whole, and then relayed.

    Engines write a block at once, so waiting for its end costs no time. It buys that an error, or
    the half of a block that a cut leaves, never reaches the client as a part of the answer.
    """

    _usual_ends: ClassVar[tuple[bytes, ...]]
    _longest_end_bytes: ClassVar[int]

    def __init__(self) -> None:
        self.ended = False
        self.usage = _UNKNOWN
        self._failure: BackendError | None = None
        self._is_orderly = False  # nothing to remember but the beginning of a block: the ordinary case
        self._began = False
        self._held = bytearray()  # the block that is not whole yet
        self._relayed = 0  # how much of it has been relayed already: none, but of an overlong one
        self._is_overlong = False  # its beginning is gone: it will not be judged
        self._keeps_newline: bool | None = None  # a CR ended the last block: what to do with its LF
        self._is_closed = False  # after the end, something else came than line ends

    @abstractmethod
    def _is_dull(self, data: bytes) -> bool:
        """No block in these whole blocks needs reading."""

    def _are_dull(self, blocks: bytes) -> bool:
        """The same, asked of what comes in the ordinary case: on the path of every token."""
        return self._is_dull(blocks)

    @staticmethod
    @abstractmethod
    def _end_of_block(data: bytes | bytearray, start: int) -> int:
        """Where the first block ends whose end mark begins at `start` or later; 0 for nowhere."""

    @abstractmethod
    def _judge(self, block: bytes) -> bool:
        """Note what a block says; False if it is not to be relayed."""

    def _judge_half(self, block: bytes) -> bool:
        """The same for a last one, whose end is missing."""
        return self._judge(block)

    @abstractmethod
    def _is_whole(self) -> bool:
        """At the end of the body: there was enough for an answer."""

    def feed(self, data: bytes) -> bytes:
        if self._is_orderly:
            relay = self._skim(data)
            if relay is not None:
                return relay
        return self._feed_with_care(data)

    def finish(self) -> bytes:
        rest = b"" if self.ended else self._judge_rest()
        if self._failure is not None:
            raise self._failure
        if self.ended or self._is_whole():
            self.ended = True
            return rest
        if not self._began:
            raise BackendFailed("the engine's answer is empty")
        raise StreamTruncated("the engine's answer stopped before its end")

    def _judge_rest(self) -> bytes:
        """The body has ended: what is held is a block, too, though its end is missing."""
        keeps = self._is_overlong or self._judge_half(bytes(self._held))
        rest = bytes(self._held[self._relayed :]) if keeps else b""
        self._held.clear()
        return rest

    def _feed_with_care(self, data: bytes) -> bytes:
        if self.ended:
            return self._after_end(data)
        if not self._began and not self._begins_well(data):
            return b""
        if self._is_tidy(data):
            return self._judge_tidy(data)
        relay = bytearray()
        if self._keeps_newline is not None and data:
            if data.startswith(b"\n"):
                relay += data[: self._keeps_newline]
                data = data[1:]
            self._keeps_newline = None
        self._add(data, relay)
        self._is_orderly = self._has_order()
        return bytes(relay)

    def _is_tidy(self, data: bytes) -> bool:
        """Nothing but whole blocks with the usual end: so short answers come, and most last parts."""
        mark = self._usual_ends[0]
        return (
            data.endswith(mark)
            and not (self._held or self._is_overlong or self._keeps_newline is not None)
            and data.find(b"\r") < 0
            and data.find(mark + b"\n") < 0
            and not data.startswith(b"\n")
            and len(data) <= MAX_HELD_BYTES
        )

    def _judge_tidy(self, data: bytes) -> bytes:
        """What to relay of such data: with no more copies than there are blocks to read."""
        mark = self._usual_ends[0]
        relay = []
        start, size = 0, len(data)
        while start < size and not self.ended:
            end = data.find(mark, start) + len(mark)
            block = data[start:end]
            keeps = self._is_dull(block) or self._judge(block)
            if keeps and self._failure is None:
                relay.append(block)
            start = end
        if start < size:
            relay.append(self._after_end(data[start:]))
        self._is_orderly = not self.ended
        return b"".join(relay)

    def _has_order(self) -> bool:
        is_simple = self._began and not (self.ended or self._is_overlong or self._relayed)
        return is_simple and self._keeps_newline is None

    def _skim(self, data: bytes) -> bytes | None:
        """What to relay of data of the ordinary kind, with as few looks and copies as can be; else None.

        1. It ends where a block does.
        2. It is not the ordinary kind: a CR makes ends hard to tell, and so does a line end at its beginning.
        3. No block ends here.
        4. Blocks end here, and another one begins.
        """
        held, ends = self._held, self._usual_ends
        if not held and data.endswith(ends):  # 1
            return data if self._are_dull(data) else None
        is_odd = data.startswith(b"\n") or data.find(b"\r") >= 0
        if is_odd or len(held) + len(data) > MAX_HELD_BYTES:  # 2
            return None
        at = data.rfind(ends[0])
        if at < 0:  # 3
            held += data
            return b""
        end = at + len(ends[0])
        blocks = bytes(held) + data[:end]
        if not self._are_dull(blocks):
            return None
        held[:] = data[end:]  # 4
        return blocks

    def _begins_well(self, data: bytes) -> bool:
        """A page of HTML stays a page, whatever the header says."""
        text = data.lstrip(_WHITESPACE)
        self._began = bool(text)
        if text.startswith(b"<"):
            self._fail(BackendFailed("the engine answered with a page instead of a stream"))
            return False
        return True

    def _fail(self, failure: BackendError) -> None:
        self._failure = failure
        self.ended = True

    def _add(self, data: bytes, relay: bytearray) -> None:
        """Judge the blocks that are whole with this data; what goes on is added to `relay`."""
        held = self._held
        searched = max(0, len(held) - self._longest_end_bytes + 1)
        held += data
        start = self._pass_blank_lines(0, relay)
        size = len(held)
        while start < size and (end := self._end_of_block(held, max(start, searched))):
            keeps = self._judge_block(start, end, relay)
            if self._failure is not None:
                break
            if end == size and held.endswith(b"\r"):
                self._keeps_newline = keeps
            if self.ended:
                relay += self._after_end(bytes(held[end:]))
                break
            start = self._pass_blank_lines(end, relay)
        self._remember(start, relay)

    def _pass_blank_lines(self, start: int, relay: bytearray) -> int:
        """Blank lines between blocks belong to none of them. Gives where the next block starts."""
        held, size = self._held, len(self._held)
        end = start
        while end < size and held[end] in b"\r\n":
            end += 1
        if end > start:
            relay += held[max(start, self._relayed) : end]
        return end

    def _judge_block(self, start: int, end: int, relay: bytearray) -> bool:
        """Whether it goes on; then it is added to `relay`."""
        if self._is_overlong or end - start > MAX_HELD_BYTES:
            self._is_overlong = False
            relay += self._held[max(start, self._relayed) : end]
            return True
        block = bytes(self._held[start:end])
        keeps = self._is_dull(block) or self._judge(block)
        if keeps and self._failure is None:
            relay += block
        return keeps

    def _remember(self, start: int, relay: bytearray) -> None:
        """Keep the block that is not whole from `start` on; an overlong one is only followed to its end."""
        held = self._held
        if self.ended:
            held.clear()
            return
        del held[:start]
        self._relayed = max(0, self._relayed - start)
        if len(held) > MAX_HELD_BYTES:
            self._is_overlong = True
        if self._is_overlong:
            relay += held[self._relayed :]
            del held[: len(held) + 1 - self._longest_end_bytes]
            self._relayed = len(held)

    def _after_end(self, data: bytes) -> bytes:
        """Line ends after the mark still belong to it; anything else does not."""
        if self._failure is not None or self._is_closed:
            return b""
        tail = data[: len(data) - len(data.lstrip(_WHITESPACE))]
        self._is_closed = len(tail) < len(data)
        return tail
