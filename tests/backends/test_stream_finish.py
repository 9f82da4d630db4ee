"""Streams of an engine that says `[DONE]` to what it broke off."""

import pytest

from provider_agent.backends.base import StreamTruncated
from provider_agent.backends.stream import EventScanner, scanner_for
from tests.fakes.engine import DONE, chat_chunk


def relayed(scanner: EventScanner, *pieces: bytes) -> bytes:
    fed = [scanner.feed(piece) for piece in pieces]
    return b"".join([*fed, scanner.finish()])


def test_done_behind_a_finish_reason_is_the_end() -> None:
    """The ordinary case."""
    said = chat_chunk("a") + chat_chunk("", "stop") + DONE

    assert relayed(EventScanner(must_finish=True), said) == said


@pytest.mark.parametrize("cut", range(1, len(DONE)))
def test_done_without_one_is_none(cut: int) -> None:
    """However it is split; and the client does not see it."""
    scanner = EventScanner(must_finish=True)
    given = [scanner.feed(piece) for piece in (chat_chunk("a"), DONE[:cut], DONE[cut:])]

    with pytest.raises(StreamTruncated):
        scanner.finish()
    assert b"".join(given) == chat_chunk("a")


def test_of_other_engines_it_is() -> None:
    """Some gateways leave the reason out."""
    said = chat_chunk("a") + DONE
    scanner = scanner_for("text/event-stream")
    given = scanner.feed(said)

    assert given + scanner.finish() == said
