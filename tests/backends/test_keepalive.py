"""What keeps a connection alive is told from an answer, however it is split."""

import pytest
from hypothesis import given

from provider_agent.backends.keepalive import KeepAlive
from tests.fakes.scanning import BORDERS, byte_by_byte, split


def answer_in(pieces: list[bytes]) -> bytes:
    """What is left of the pieces, the answer's first one whole, the others as they come."""
    keep_alive = KeepAlive()
    for number, piece in enumerate(pieces):
        answer = keep_alive.skip(piece)
        if answer:
            return answer + b"".join(pieces[number + 1 :])
    return b""


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_comments_and_blank_lines_are_no_answer(end: bytes) -> None:
    """As often as they come, and in each spelling of a line end."""
    pings = (b": ping" + end + end + b":" + end) * 3

    assert answer_in([pings, pings]) == b""
    assert answer_in(byte_by_byte(pings)) == b""


def test_blanks_before_a_document_are_no_answer() -> None:
    """OpenRouter sends them while a model thinks."""
    assert answer_in([b"\n         \n", b"\r\n\t", b""]) == b""
    assert answer_in([b"\n  ", b"\n {}\n"]) == b"{}\n"


def test_a_byte_order_mark_is_no_answer() -> None:
    """No reader of JSON takes it, nor a reader of the first event's name; elsewhere it is a character."""
    mark = b"\xef\xbb\xbf"

    assert answer_in([mark + b'{"a":"' + mark + b'"}']) == b'{"a":"' + mark + b'"}'
    assert answer_in(byte_by_byte(mark + b": ping\n\ndata: 1\n\n")) == b"data: 1\n\n"
    assert answer_in([b"\xef", b"\xbb{}"]) == b"\xef\xbb{}"
    assert answer_in([b"\n", mark + b"{}"]) == mark + b"{}"


@pytest.mark.parametrize("answer", [b"d", b"data: 1\n\n: ping\n\n", b"{", b"<html>", b"event: x\n"])
def test_the_first_other_byte_begins_it(answer: bytes) -> None:
    """Also behind a comment in the same read; what follows it is left as it is."""
    assert answer_in([b": ping\n\n", answer]) == answer
    assert answer_in([b": pi", b"ng\n\n" + answer]) == answer


@given(BORDERS)
def test_wherever_it_is_split_it_begins_with_the_same_byte(borders: list[int]) -> None:
    """A comment may be cut in two, and a colon in its middle begins no other."""
    answer = b"data: : x\n\n: y\n"

    assert answer_in(split(b"\r\n: a: b\r\n: :\n\n\n:\r\r" + answer, borders)) == answer
