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
from typing import Final, Protocol

from provider_agent.backends import facts, failures
from provider_agent.backends.base import BackendFailed, StreamTruncated, Usage
from provider_agent.backends.blocks import BlockScanner
from provider_agent.backends.document import DocumentScanner
from provider_agent.backends.pattern import Pattern, is_plain

_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_ALARM: Final = b"error"
"""In every engine's way to report an error; in few other events."""

_USUAL_DONE: Final = b"data: [DONE]\n\n"
_NOT_FINISHED: Final = (b'"finish_reason"', b'"finish_reason":null', b'"finish_reason": null')
_NO_USAGE: Final = (b'"usage"', b'"usage":null', b'"usage": null')
_NOT_DONE: Final = (b'"done"', b'"done":false', b'"done": false')

_LESSONS: Final = 200
"""In one answer. Where each event differs in something else, learning from it would be labour lost."""


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


def scanner_for(
    content_type: str,
    *,
    drops_usage: bool = False,
    choices: int = 1,
    may_be_list: bool = False,
    must_finish: bool = False,
) -> Scanner:
    """The scanner of a body of that type; raises BackendFailed for a type that no answer has.

    Args:
        content_type: as the engine sent it, parameters included.
        drops_usage: the client did not ask for the usage event of a stream.
        choices: how many answers the client asked for.
        may_be_list: one JSON document of this endpoint may be a list.
        must_finish: of this engine, `[DONE]` without a finish reason is no end.
    """
    match content_type.partition(";")[0].strip().lower():
        case "text/event-stream":
            return EventScanner(drops_usage=drops_usage, choices=choices, must_finish=must_finish)
        case "application/x-ndjson" | "application/ndjson" | "application/jsonl":
            return LineScanner()
        case "application/json":
            return DocumentScanner(may_be_list=may_be_list)
        case "":
            raise BackendFailed("the engine's answer has no content type")
        case other:
            shown = other if re.fullmatch(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}", other) else "something"
            raise BackendFailed(f"the engine answered with {shown} instead of JSON or a stream of events")


class EventScanner(BlockScanner):
    """Server-sent events, with four ways to end.

    1. `[DONE]`, of chat and completions.
    2. `response.completed` or `response.incomplete`, of responses.
    3. `message_stop`, of messages.
    4. Each choice's finish_reason, and then the end of the body.
    """

    _usual_ends = (b"\n\n", b"\r\n\r\n")
    _longest_end_bytes = len(b"\r\n\r\n")

    def __init__(self, *, drops_usage: bool = False, choices: int = 1, must_finish: bool = False) -> None:
        super().__init__()
        self._must_finish = must_finish
        self._drops_usage = drops_usage
        self._choices = choices
        self._finished: frozenset[object] = frozenset()
        self._pattern: Pattern | None = None  # of the dull events here
        self._before: bytes | tuple[()] = ()  # of the pattern; nothing starts with one of no prefixes
        self._after = b""
        self._lessons = _LESSONS

    def feed(self, data: bytes) -> bytes:
        if (  # one token more, like the last one
            data.startswith(self._before)
            and data.endswith(self._after)
            and not self._held
            and is_plain(data, len(self._before), len(data) - len(self._after))
            and self._is_orderly
        ):
            return data
        return super().feed(data)

    def _is_dull(self, data: bytes) -> bool:
        find = data.find  # `in` takes three times as long on bytes
        return (
            _says_only(data, *_NOT_FINISHED)
            and (find(b'"usage"') < 0 or _says_only(data, *_NO_USAGE))
            and find(b"[DONE]") < 0
            and find(_ALARM) < 0
            and find(b'"response.') < 0
            and find(b'"message_stop"') < 0
            and find(b'"timings"') < 0
        )

    def _are_dull(self, blocks: bytes) -> bool:
        if self._pattern is not None and self._pattern.fits_all(blocks):
            return True
        if not self._is_dull(blocks):
            return False
        if self._lessons:
            self._learn(blocks)
        return True

    def _learn(self, data: bytes) -> None:
        """From the first event, which is read, and says nothing, the others that are like it are known."""
        self._lessons -= 1
        event = data[: self._end_of_block(data, 0)]
        if facts.read(_event_in(event)[1]) is None:
            return
        pattern = Pattern.of(event)
        if pattern is not None:
            self._pattern, self._before, self._after = pattern, pattern.before, pattern.after

    @staticmethod
    def _end_of_block(data: bytes | bytearray, start: int) -> int:
        if data.find(b"\r", start) < 0:  # the ordinary case, ten times as fast
            at = data.find(b"\n\n", start)
            return 0 if at < 0 else at + 2
        blank_line = _BLANK_LINE.search(data, start)
        return blank_line.end() if blank_line else 0

    def _is_whole(self) -> bool:
        return len(self._finished) >= self._choices

    def _judge(self, block: bytes) -> bool:
        name, payload = (b"", b"[DONE]") if block == _USUAL_DONE else _event_in(block)
        if payload.strip() == b"[DONE]":
            self.ended = True
            if self._must_finish and not self._finished:
                self._fail(StreamTruncated("the engine broke off its answer, and called it done"))
            return self._failure is None
        said = facts.read(payload) or facts.make_out(payload)
        if said is not None:
            self.usage = said.usage_after(self.usage)
        failure = said.failure if said else None
        if failure is not None or name == b"error":
            self._fail(failures.in_answer(failure))
            return False
        if said is None:
            return True
        if said.choices and not self._is_whole():  # nor does an engine that names more make it grow for ever
            self._finished |= said.finished_choices
        self.ended = said.ends_response
        return not (self._drops_usage and said.is_usage_only)

    def _judge_half(self, block: bytes) -> bool:
        """Behind each choice's finish_reason, the half of a usage event is no part of a whole answer."""
        keeps = self._judge(block)
        return keeps and (self.ended or facts.read(_event_in(block)[1]) is not None)


class LineScanner(BlockScanner):
    """JSON lines of Ollama. The end: a line with `"done":true`."""

    _usual_ends = (b"\n",)
    _longest_end_bytes = 1

    def _is_dull(self, data: bytes) -> bool:
        return _says_only(data, *_NOT_DONE) and data.find(_ALARM) < 0 and data.find(b"eval_count") < 0

    @staticmethod
    def _end_of_block(data: bytes | bytearray, start: int) -> int:
        return data.find(b"\n", start) + 1

    def _is_whole(self) -> bool:
        return False

    def _judge(self, block: bytes) -> bool:
        said = facts.read(block) or facts.make_out(block)
        if said is None:
            return True
        self.usage = said.usage_after(self.usage)
        if said.failure is not None:
            self._fail(failures.in_answer(said.failure))
            return False
        self.ended = said.done is True
        return True


def _says_only(data: bytes, name: bytes, usual: bytes, spaced: bytes) -> bool:
    """Wherever the member stands, it is the usual one; a cheap look that may say no too often."""
    count = data.count(name)
    return not count or count == data.count(usual) or count == data.count(spaced)


def _event_in(block: bytes) -> tuple[bytes, bytes]:
    """Name and data of an event. Old llama.cpp sends its error as a field `error`, without any event name."""
    only_line = block.rstrip(b"\r\n")
    if block.startswith(b"data: {") and only_line.find(b"\n") < 0 and only_line.find(b"\r") < 0:
        return b"", only_line[6:]  # the ordinary case, three times as fast
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
