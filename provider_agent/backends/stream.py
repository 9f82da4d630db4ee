"""What ends, fails and is counted in an engine's answer, and which of its bytes go on; knows no socket.

A scanner is fed the body as it comes and gives back what may be relayed now:

    while not scanner.ended and (data := await read()):
        relay(scanner.feed(data))
    relay(scanner.finish())   # the verdict: raises unless the answer is whole

Three forms of body: server-sent events (OpenAI), JSON lines (Ollama), one JSON document. How the
bytes were split on the way has no influence on the verdict, nor on what is relayed of a whole
answer. Bytes go on verbatim, but for the one usage event that the client did not ask for.
"""

import re
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Protocol

from provider_agent.backends import facts, failures
from provider_agent.backends.base import BackendError, BackendFailed, StreamTruncated, Usage
from provider_agent.backends.document import DocumentScanner

MAX_HELD_BYTES: Final = 1024 * 1024
"""A longer event or line is relayed without being read: memory stays bounded."""

_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_WHITESPACE: Final = b" \t\r\n"
_ALARM: Final = b"error"
"""In every engine's way to report an error; in few other events."""


class Scanner(Protocol):
    """One answer, as far as it came.

    Attributes:
        ended: nothing that follows matters; do not wait for it.
        usage: what the engine has counted so far.
    """

    ended: bool
    usage: Usage

    def feed(self, data: bytes) -> bytes:
        """Bytes to relay now, maybe none. Never raises: the verdict is `finish`."""
        ...

    def finish(self) -> bytes:
        """Last bytes to relay, after `ended` or the end of the body.

        Raises StreamFailed for an error that the engine reported, StreamTruncated without the end
        mark, BackendFailed for a body that is no answer.
        """
        ...


def scanner_for(content_type: str, *, drops_usage: bool = False, choices: int = 1) -> Scanner:
    """The scanner of a body of that type; raises BackendFailed for a type that no answer has.

    Args:
        content_type: as the engine sent it, parameters included.
        drops_usage: the client did not ask for the usage event of a stream.
        choices: how many answers the client asked for (`n`).
    """
    match content_type.partition(";")[0].strip().lower():
        case "text/event-stream":
            return EventScanner(drops_usage=drops_usage, choices=choices)
        case "application/x-ndjson" | "application/ndjson" | "application/jsonl":
            return LineScanner()
        case "application/json":
            return DocumentScanner()
        case "":
            raise BackendFailed("the engine's answer has no content type")
        case other:
            shown = other if re.fullmatch(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}", other) else "something"
            raise BackendFailed(f"the engine answered with {shown} instead of JSON or a stream of events")


class _BlockScanner(ABC):
    """A body of blocks that end in a known way, each of which is judged when it is whole, and then relayed.

    Engines write a block at once, so waiting for its end costs no time. It buys that an error, or
    the half of a block that a cut leaves, never reaches the client as a part of the answer.
    """

    _usual_ends: ClassVar[tuple[bytes, ...]]
    _longest_end_bytes: ClassVar[int]

    def __init__(self) -> None:
        self.ended = False
        self.usage = Usage()
        self._failure: BackendError | None = None
        self._calm = False  # at the start of a block, with nothing to remember: the ordinary case
        self._began = False
        self._held = bytearray()  # the block that is not whole yet
        self._relayed = 0  # how much of it has been relayed already: none, but of an overlong one
        self._is_overlong = False  # its beginning is gone: it will not be judged
        self._keeps_newline: bool | None = None  # a CR ended the last block: what to do with its LF
        self._is_closed = False  # after the end, something else came than line ends

    @staticmethod
    @abstractmethod
    def _is_dull(data: bytes | bytearray) -> bool:
        """No block in these whole blocks needs reading. On the path of every token."""

    @staticmethod
    @abstractmethod
    def _end_of_block(data: bytearray, start: int) -> int:
        """Where the first block ends whose end mark begins at `start` or later; 0 for nowhere."""

    @staticmethod
    @abstractmethod
    def _end_of_last_block(data: bytearray, start: int) -> int:
        """Where the last one ends, if that is quickly said; else 0."""

    @abstractmethod
    def _judge(self, block: bytes) -> bool:
        """Note what a block says; False if it is not to be relayed."""

    @abstractmethod
    def _is_whole(self) -> bool:
        """At the end of the body: there was enough for an answer."""

    def feed(self, data: bytes) -> bytes:
        if self._calm and data.endswith(self._usual_ends) and self._is_dull(data):
            return data
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
        keeps = self._is_overlong or self._judge(bytes(self._held))
        rest = bytes(self._held[self._relayed :]) if keeps else b""
        self._held.clear()
        return rest

    def _feed_with_care(self, data: bytes) -> bytes:
        if self.ended:
            return self._after_end(data)
        if not self._began and not self._begins_well(data):
            return b""
        relay = bytearray()
        if self._keeps_newline is not None and data:
            if data.startswith(b"\n"):
                relay += data[: self._keeps_newline]
                data = data[1:]
            self._keeps_newline = None
        self._add(data, relay)
        self._calm = self._is_at_rest()
        return bytes(relay)

    def _is_at_rest(self) -> bool:
        return self._began and not (self._held or self.ended or self._keeps_newline is not None)

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
        start = self._pass_blank_lines(self._pass_dull_blocks(searched, relay), relay)
        while end := self._end_of_block(held, max(start, searched)):
            keeps = self._judge_block(start, end)
            if self._failure is not None:
                break
            if keeps:
                relay += held[max(start, self._relayed) : end]
            if end == len(held) and held.endswith(b"\r"):
                self._keeps_newline = keeps
            if self.ended:
                relay += self._after_end(bytes(held[end:]))
                break
            start = self._pass_blank_lines(end, relay)
        self._remember(start, relay)

    def _pass_dull_blocks(self, searched: int, relay: bytearray) -> int:
        """A read of many tokens ends amid one: take all the whole ones at once. Gives their end."""
        end = self._end_of_last_block(self._held, searched)
        if not end or not self._is_dull(self._held[:end]):
            return 0
        relay += self._held[self._relayed : end]
        self._is_overlong = False
        return end

    def _pass_blank_lines(self, start: int, relay: bytearray) -> int:
        """Blank lines between blocks belong to none of them. Gives where the next block starts."""
        held = self._held
        end = start
        while end < len(held) and held[end] in b"\r\n":
            end += 1
        relay += held[max(start, self._relayed) : end]
        return end

    def _judge_block(self, start: int, end: int) -> bool:
        if self._is_overlong or end - start > MAX_HELD_BYTES:
            self._is_overlong = False
            return True
        block = bytes(self._held[start:end])
        return self._is_dull(block) or self._judge(block)

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


class EventScanner(_BlockScanner):
    """Server-sent events, with three ways to end.

    1. `[DONE]`, of chat and completions.
    2. `response.completed` or `response.incomplete`, of responses.
    3. Each choice's finish_reason, and then the end of the body.
    """

    _usual_ends = (b"\n\n", b"\r\n\r\n")
    _longest_end_bytes = len(b"\r\n\r\n")

    def __init__(self, *, drops_usage: bool = False, choices: int = 1) -> None:
        super().__init__()
        self._drops_usage = drops_usage
        self._choices = choices
        self._finished: frozenset[object] = frozenset()

    @staticmethod
    def _is_dull(data: bytes | bytearray) -> bool:
        find = data.find  # `in` takes three times as long on bytes
        return (
            find(_ALARM) < 0
            and find(b"[DONE]") < 0
            and find(b'"response.') < 0
            and (find(b'"usage"') < 0 or _says_only(data, b'"usage"', b"null"))
            and _says_only(data, b'"finish_reason"', b"null")
        )

    @staticmethod
    def _end_of_block(data: bytearray, start: int) -> int:
        if data.find(b"\r", start) < 0:  # the ordinary case, ten times as fast
            at = data.find(b"\n\n", start)
            return 0 if at < 0 else at + 2
        blank_line = _BLANK_LINE.search(data, start)
        return blank_line.end() if blank_line else 0

    @staticmethod
    def _end_of_last_block(data: bytearray, start: int) -> int:
        at = -1 if data.find(b"\r", start) >= 0 else data.rfind(b"\n\n", start)
        return 0 if at < 0 else at + 2

    def _is_whole(self) -> bool:
        return len(self._finished) >= self._choices

    def _judge(self, block: bytes) -> bool:
        name, payload = _event_in(block)
        if payload.strip() == b"[DONE]":
            self.ended = True
            return True
        said = facts.read(payload) or facts.make_out(payload)
        failure = said.failure if said else None
        if failure is not None or name == b"error":
            self._fail(failures.in_answer(failure))
            return False
        if said is None:
            return True
        self.usage = said.usage_after(self.usage)
        self._finished |= said.finished_choices
        self.ended = said.ends_response
        return not (self._drops_usage and said.is_usage_only)


class LineScanner(_BlockScanner):
    """JSON lines of Ollama. The end: a line with `"done":true`."""

    _usual_ends = (b"\n",)
    _longest_end_bytes = 1

    @staticmethod
    def _is_dull(data: bytes | bytearray) -> bool:
        return (
            data.find(_ALARM) < 0 and data.find(b"eval_count") < 0 and _says_only(data, b'"done"', b"false")
        )

    @staticmethod
    def _end_of_block(data: bytearray, start: int) -> int:
        return data.find(b"\n", start) + 1

    @staticmethod
    def _end_of_last_block(data: bytearray, start: int) -> int:
        return data.rfind(b"\n", start) + 1

    def _is_whole(self) -> bool:
        return False

    def _judge(self, block: bytes) -> bool:
        said = facts.read(block) or facts.make_out(block)
        if said is None:
            return True
        if said.failure is not None:
            self._fail(failures.in_answer(said.failure))
            return False
        self.usage = said.usage_after(self.usage)
        self.ended = said.done is True
        return True


def _says_only(data: bytes | bytearray, name: bytes, value: bytes) -> bool:
    """Wherever the member stands, it has this value; a cheap look that may say no too often."""
    count = data.count(name)
    if not count:
        return True
    return count == data.count(name + b":" + value) or count == data.count(name + b": " + value)


def _event_in(block: bytes) -> tuple[bytes, bytes]:
    """Name and data of an event. Old llama.cpp sends its error as a field `error`, without any event name."""
    name, lines = b"", []
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.strip()
        elif field == b"error":
            name = b"error"
            lines.append(b'{"error":' + value + b"}")
    return name, b"\n".join(lines)
