"""Framing is fed bytes by hand: no loop, no socket."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.backends.framing import MAX_HEAD_BYTES, Framing, NotHttp
from tests.fakes.scanning import BORDERS, split

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
)
SIZED = b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nabcde"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nabcde"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


def body(framing: Framing) -> bytes:
    return b"".join(framing.pieces)


def test_an_answer_is_head_and_body() -> None:
    """Without the frames around the chunks."""
    framing = Framing()
    framing.feed(CHUNKED)

    assert framing.head is not None
    assert (framing.head.status, framing.head.text(b"content-type")) == (200, "text/event-stream")
    assert (framing.head.has_end, framing.head.is_persistent) == (True, True)
    assert (body(framing), framing.is_complete) == (b"abcde", True)


def test_a_body_may_end_with_the_connection() -> None:
    """Then nobody can use that again."""
    framing = Framing()
    framing.feed(ENDLESS)

    assert framing.head is not None
    assert (framing.head.has_end, framing.head.is_persistent) == (False, False)
    assert (body(framing), framing.is_complete) == (b"abcde", False)


@pytest.mark.parametrize("line", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
def test_an_engine_may_announce_that_it_closes(line: bytes) -> None:
    """By a field, or by its age."""
    framing = Framing()
    framing.feed(line + b"Content-Length: 1\r\n\r\na")

    assert framing.head is not None
    assert (framing.head.is_persistent, framing.is_complete) == (False, True)


def test_an_engine_may_announce_behind_the_body_that_it_closes() -> None:
    """The parser believes that, too: whatever came next over this connection would be no HTTP to it."""
    framing = Framing()
    framing.feed(CHUNKED.replace(b"Trailer: x", b"Connection: close"))

    assert framing.head is not None
    assert (framing.head.is_persistent, framing.is_complete) == (False, True)


def test_an_answer_in_another_protocol_is_none() -> None:
    """The parser has an error of its own for that, which nobody above knows."""
    framing = Framing()

    with pytest.raises(NotHttp):
        framing.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nxyz")


def test_interim_answers_are_skipped() -> None:
    """They announce, and are no answer."""
    framing = Framing()
    framing.feed(INTERIM + SIZED)

    assert framing.head is not None
    assert (framing.head.status, dict(framing.head.fields)) == (404, {b"content-length": b"5"})
    assert framing.is_complete


def test_one_answer_follows_another_when_it_is_expected() -> None:
    """Nothing of the first is left."""
    framing = Framing()
    framing.feed(CHUNKED)
    framing.begin()
    framing.feed(SIZED)

    assert framing.head is not None
    assert (framing.head.status, framing.head.text(b"content-type"), body(framing)) == (404, "", b"abcde")


@pytest.mark.parametrize("more", [SIZED, b"H", b"garbage"])
def test_an_answer_that_nobody_asked_for_is_none(more: bytes) -> None:
    """Nothing of it is taken for a part of the one before."""
    framing = Framing()
    with pytest.raises(NotHttp):
        framing.feed(CHUNKED + more)

    assert (body(framing), framing.is_complete) == (b"abcde", True)


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x00", b"<html>", b"HTTP/2 200\r\n"]
)
def test_another_protocol_is_not_http(data: bytes) -> None:
    """Any program may be behind a port."""
    with pytest.raises(NotHttp):
        Framing().feed(data)


@pytest.mark.parametrize("status", [b"000", b"042", b"099"])
def test_a_status_below_100_is_no_interim_answer(status: bytes) -> None:
    """It may have a body, which would come before that of the answer, or have no end (field note 28)."""
    framing = Framing()
    with pytest.raises(NotHttp):
        framing.feed(b"HTTP/1.1 " + status + b" Odd\r\nContent-Length: 5\r\n\r\nabcde" + SIZED)

    assert not framing.pieces


def test_a_head_has_a_limit() -> None:
    """However it comes."""
    framing = Framing()
    framing.feed(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60_000)
    framing.overhead_bytes += 60_000
    framing.check()
    with pytest.raises(NotHttp):
        framing.feed(b"x" * 10_000 + b"\r\n\r\n")

    framing = Framing()
    framing.overhead_bytes = MAX_HEAD_BYTES + 1
    with pytest.raises(NotHttp):
        framing.check()


def test_after_the_end_of_the_connection_nothing_is_read() -> None:
    """Nor is the parser kept."""
    framing = Framing()
    framing.release()
    framing.feed(SIZED)

    assert framing.head is None


@given(st.sampled_from([CHUNKED, SIZED, ENDLESS, INTERIM + CHUNKED]), BORDERS)
@example(INTERIM + CHUNKED, list(range(200)))
def test_any_split_gives_the_same_answer(answer: bytes, borders: list[int]) -> None:
    """The network may cut anywhere."""
    whole, parts = Framing(), Framing()
    whole.feed(answer)
    for piece in split(answer, borders):
        parts.feed(piece)

    assert (parts.head, body(parts), parts.is_complete) == (whole.head, body(whole), whole.is_complete)
