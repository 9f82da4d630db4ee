"""What keeps a connection alive is told from an answer, however it is split."""

import pytest
from hypothesis import given

from provider_agent.backends.keepalive import KeepAlive
from tests.fakes.scanning import BORDERS, byte_by_byte, split


def begins_at(pieces: list[bytes]) -> int | None:
    """Which piece begins the answer."""
    keep_alive = KeepAlive()
    return next((number for number, piece in enumerate(pieces) if not keep_alive.is_all(piece)), None)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_comments_and_blank_lines_are_no_answer(end: bytes) -> None:
    """As often as they come, and in each spelling of a line end."""
    pings = (b": ping" + end + end + b":" + end) * 3

    assert begins_at([pings, pings]) is None
    assert begins_at(byte_by_byte(pings)) is None


def test_blanks_before_a_document_are_no_answer() -> None:
    """OpenRouter sends them while a model thinks."""
    assert begins_at([b"\n         \n", b"\r\n\t", b""]) is None


@pytest.mark.parametrize("data", [b"d", b": ping\n\ndata: 1\n\n", b"\n {", b"<html>", b"event: x\n"])
def test_the_first_other_byte_begins_it(data: bytes) -> None:
    """Also behind a comment in the same read."""
    assert begins_at([b": ping\n\n", data]) == 1


@given(BORDERS)
def test_wherever_it_is_split_it_begins_with_the_same_byte(borders: list[int]) -> None:
    """A comment may be cut in two, and a colon in its middle begins no other."""
    before, answer = b"\r\n: a: b\r\n: :\n\n\n:\r\r", b"data: : x\n\n"
    pieces = split(before, borders)

    assert begins_at([*pieces, answer]) == len(pieces)
