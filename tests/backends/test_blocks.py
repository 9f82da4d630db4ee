"""Blocks as events are: what waits for their end, and what does not. No loop, no socket."""

import pytest

from provider_agent.backends.base import Usage
from provider_agent.backends.blocks import MAX_HELD_BYTES
from provider_agent.backends.stream import EventScanner
from tests.fakes.engine import DONE, chat_chunk, usage_event
from tests.fakes.scanning import byte_by_byte, read

ANSWER = chat_chunk("Hel") + chat_chunk("lo") + chat_chunk("", "stop")


def test_each_event_goes_on_with_the_byte_that_ends_it() -> None:
    """Field note 34: nothing else is waited for, however the engine dribbles."""
    scanner = EventScanner()
    relayed = [scanner.feed(piece) for piece in byte_by_byte(ANSWER)]

    assert [each for each in relayed if each] == [
        chat_chunk("Hel")[:-1] + b"\n",
        chat_chunk("lo"),
        chat_chunk("", "stop"),
    ]
    assert relayed[-1]


def test_half_an_event_never_goes_on() -> None:
    """Field note 28: a cut amid an event leaves whole events only, so that an error can follow them."""
    assert read(EventScanner(), [chat_chunk("Hel") + chat_chunk("lo")[:-7]]) == (
        chat_chunk("Hel"),
        Usage(),
        "StreamTruncated: the engine's answer stopped before its end",
    )


def test_only_the_event_that_is_not_whole_waits() -> None:
    """Field note 34: whole events go on with the read that ends them."""
    scanner = EventScanner(drops_usage=True)
    event = chat_chunk("a")

    assert scanner.feed(event + event[:20]) == event
    assert scanner.feed(event[20:] + event[:5]) == event


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_an_event_goes_on_when_its_blank_line_came(end: bytes) -> None:
    """Field note 32: in all three spellings of a line end; CR needs no byte after it."""
    scanner = EventScanner(drops_usage=True)
    event = b'data: {"choices":[{"index":0}]}' + end + end

    assert b"".join([scanner.feed(piece) for piece in byte_by_byte(event * 3)]) == event * 3


def test_a_body_without_a_line_break_does_not_fill_memory() -> None:
    """Field note 32: beyond the limit it is passed through, and its end is still found."""
    scanner = EventScanner(drops_usage=True)
    half = b"data: " + b"x" * MAX_HELD_BYTES

    assert scanner.feed(half) == half
    assert scanner.feed(b"y" * 1000) == b"y" * 1000
    assert len(scanner._held) < 10
    assert scanner.feed(b"\n\n" + usage_event(1, 1) + DONE) == b"\n\n" + DONE
    assert scanner.usage == Usage(1, 1)


def test_usage_can_be_removed_however_the_line_end_is_split() -> None:
    """The LF of a CRLF belongs to the event that its CR ended."""
    kept = ANSWER.replace(b"\n", b"\r\n")
    body = kept + usage_event(3, 2).replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n"

    assert read(EventScanner(drops_usage=True), byte_by_byte(body)) == (
        kept + b"data: [DONE]\r\n\r\n",
        Usage(3, 2),
        "whole",
    )
