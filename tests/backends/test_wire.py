"""A wire whose other end is in the test's hand; what only sockets show is in test_http.py."""

import asyncio
import socket

import pytest

from provider_agent.backends.framing import NotHttp
from provider_agent.backends.wire import READ_BYTES, EngineSilent, Lost, ReadBuffer, Wire
from tests.fakes.transports import LooseTransport

LATE_S = 5.0
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Reader:
    """What is pushed to a reader.

    Attributes:
        ends: what cut each answer off, in order; None for nothing.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Exception | None] = []

    def read(self, wire: Wire) -> None:
        wire.read(self.pieces.append, self.ends.append)


def no_matter(_wire: Wire) -> None:
    """A pool that does not care."""


async def test_a_request_goes_out_and_its_answer_is_pushed() -> None:
    """Each read in one piece, in the moment in which it comes."""
    with LooseTransport() as line:
        reader = Reader()
        line.wire.send(b"POST", b" it")
        line.arrive(HEAD)
        assert (await line.wire.answered()).status == 200
        reader.read(line.wire)
        line.arrive(chunk(b"a"))
        assert reader.pieces == [b"a"]
        line.arrive(chunk(b"b") + chunk(b"c") + END)

        assert (bytes(line.written), reader.pieces, reader.ends) == (b"POST it", [b"a", b"bc"], [None])


async def test_what_comes_before_a_reader_is_kept_and_nothing_more_is_read() -> None:
    """Memory is bounded by one read."""
    with LooseTransport() as line:
        pauses, reader = [], Reader()
        for data in (HEAD, chunk(b"a")):
            line.arrive(data)
            pauses.append(line.is_paused)
        reader.read(line.wire)

        assert (pauses, line.is_paused, reader.pieces) == ([False, True], False, [b"a"])


async def test_nothing_is_written_to_a_connection_that_is_lost() -> None:
    """An engine may hang up amidst a large request; uvloop raises where a closed connection is written to."""
    with LooseTransport() as line:
        line.wire.send(b"POST", bytes(4 * 1024 * 1024))
        line.lose()
        sent_bytes = len(line.written)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert len(line.written) == sent_bytes < 4 * 1024 * 1024


async def test_one_read_is_bounded() -> None:
    """That is what may still come after a pause."""
    with LooseTransport() as line:
        assert len(line.wire.get_buffer(-1)) == READ_BYTES == 64 * 1024


async def test_a_body_without_an_end_mark_ends_with_the_connection() -> None:
    """As HTTP/1.0 has it."""
    with LooseTransport() as line:
        reader = Reader()
        line.arrive(b"HTTP/1.0 200 OK\r\n\r\nabc")
        reader.read(line.wire)
        line.lose()

        assert (reader.pieces, reader.ends) == ([b"abc"], [None])


@pytest.mark.parametrize("head", [HEAD, SIZED])
async def test_a_body_with_an_end_mark_is_cut_off_without_it(head: bytes) -> None:
    """Field note 28: what came is pushed all the same."""
    with LooseTransport() as line:
        reader = Reader()
        line.arrive(head + (chunk(b"abc") if head is HEAD else b"abc"))
        line.lose(ConnectionResetError())
        reader.read(line.wire)

        assert reader.pieces == [b"abc"]
        assert isinstance(reader.ends[0], Lost)


async def test_a_connection_that_says_nothing_was_not_heard() -> None:
    """Its request may be sent over another one."""
    with LooseTransport() as line:
        line.wire.send(b"GET", b"")
        line.lose()
        with pytest.raises(Lost) as caught:
            await line.wire.answered()
    with LooseTransport() as line:
        line.arrive(b"HT")
        line.lose()
        with pytest.raises(Lost) as heard:
            await line.wire.answered()

    assert (caught.value.was_heard, heard.value.was_heard) == (False, True)


async def test_what_is_not_http_ends_the_answer() -> None:
    """Before its head, and in its body; what was good of it is pushed."""
    with LooseTransport() as line:
        line.arrive(b"SSH-2.0\r\n")
        with pytest.raises(NotHttp):
            await line.wire.answered()
    with LooseTransport() as line:
        reader = Reader()
        line.arrive(HEAD)
        reader.read(line.wire)
        line.arrive(chunk(b"a") + b"zz\r\n")

        assert reader.pieces == [b"a"]
        assert isinstance(reader.ends[0], NotHttp)


@pytest.mark.parametrize("endless", [HEAD[:17] + b"X: y\r\n" * 9000, HEAD + b"1;" + b"x" * 60_000])
async def test_what_is_around_the_body_has_a_limit(endless: bytes) -> None:
    """Memory is bounded."""
    with LooseTransport() as line:
        reader = Reader()
        reader.read(line.wire)
        line.arrive(endless)
        assert reader.ends == []
        line.arrive(b"x" * 60_000)

        assert isinstance(reader.ends[0], NotHttp)


async def test_silence_cuts_an_answer_off() -> None:
    """Wherever it is."""
    with LooseTransport() as line:
        line.wire.silence.begin(0.01)
        async with asyncio.timeout(LATE_S):
            with pytest.raises(EngineSilent):
                await line.wire.answered()


async def test_a_whole_answer_leaves_a_connection_to_use_again() -> None:
    """And the next answer over it is another one."""
    with LooseTransport() as line:
        wire, first, second = line.wire, Reader(), Reader()
        line.arrive(SIZED + b"abc")
        first.read(wire)
        assert (wire.may_become_reusable, wire.is_reusable) == (True, False)
        line.arrive(b"de")
        assert wire.is_reusable
        wire.rest(no_matter)
        wire.send(b"GET", b"")
        line.arrive(HEAD + chunk(b"x"))
        second.read(wire)
        line.arrive(END)

        assert (b"".join(first.pieces), second.pieces, second.ends) == (b"abcde", [b"x"], [None])
        assert wire.is_reusable


@pytest.mark.parametrize(
    "answer",
    [
        SIZED + b"abcdeHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_other_connections_are_not_used_again(answer: bytes) -> None:
    """More came than was asked for; or the engine closes, as it says."""
    with LooseTransport() as line:
        line.arrive(answer)
        reader = Reader()
        reader.read(line.wire)

        assert reader.ends == [None]
        assert not line.wire.is_reusable


@pytest.mark.parametrize("said", [b"garbage", SIZED + b"abcde"])
async def test_what_comes_to_a_resting_connection_ends_it(said: bytes) -> None:
    """It might be taken for the answer of the next job."""
    with LooseTransport() as line:
        spoiled: list[Wire] = []
        line.arrive(SIZED + b"abcde")
        line.wire.rest(spoiled.append)
        line.arrive(said)
        assert line.is_closing()
        await line.wire.hang_up()

        assert spoiled == [line.wire]


async def test_what_the_loop_has_not_seen_yet_is_seen() -> None:
    """The end of a resting connection may be waiting in the system."""
    with LooseTransport() as line:
        assert not line.wire.has_news
        line.far_end.send(b"x")
        assert line.wire.has_news


async def test_a_big_request_is_written_bit_by_bit_and_only_as_fast_as_it_is_taken() -> None:
    """The other jobs go on meanwhile."""
    body = bytes(range(256)) * 4096
    with LooseTransport() as line:
        line.wire.send(b"HEAD", body)
        some = len(line.written)
        assert 0 < some < len(body)
        line.wire.pause_writing()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(line.written) == some
        line.wire.resume_writing()
        for _ in range(len(body) // some):
            await asyncio.sleep(0)

        assert bytes(line.written) == b"HEAD" + body


async def test_an_answer_to_half_a_request_leaves_no_connection_to_use_again() -> None:
    """The rest of the request would be read as the next one."""
    with LooseTransport() as line:
        line.wire.pause_writing()
        line.wire.send(b"HEAD", bytes(1 << 20))
        line.arrive(SIZED + b"abcde")

        assert not line.wire.may_become_reusable
        await line.wire.hang_up()
        assert line.lost.is_set()


@pytest.mark.parametrize("size_bytes", [10, 1 << 20])
async def test_a_refusal_before_the_whole_request_is_heard_though_a_reset_follows(size_bytes: int) -> None:
    """As servers do that have a limit for requests: else it would look like an engine that dies."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, wire = await loop.create_connection(lambda: Wire(ReadBuffer()), *listener.getsockname())
        engine, _ = listener.accept()
        wire.send(b"HEAD" * 100, bytes(size_bytes))
        with engine:  # what it has not read makes a reset of its close
            engine.recv(100)
            engine.sendall(SIZED + b"abcde")
        async with asyncio.timeout(LATE_S):
            head = await wire.answered()
            assert (head.status, await wire.body(100)) == (200, b"abcde")
            await wire.hang_up()


async def test_a_page_is_read_to_its_limit() -> None:
    """Memory is bounded; what is cut short before is told."""
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(b"abcdef"))
        assert await line.wire.body(4) == b"abcd"
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(b"abc"))
        line.lose()
        with pytest.raises(Lost):
            await line.wire.body(4)


async def test_after_hanging_up_nothing_is_pushed() -> None:
    """The reader has left."""
    with LooseTransport() as line:
        reader = Reader()
        line.arrive(HEAD)
        reader.read(line.wire)
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(line.wire.hang_up())
            await asyncio.sleep(0)
            line.arrive(chunk(b"late"))
            await leaving

        assert (reader.pieces, reader.ends) == ([], [])


async def test_a_server_that_speaks_before_it_is_connected_is_left() -> None:
    """Under TLS its first words may come before the transport is known."""
    with LooseTransport() as line:
        wire = Wire(ReadBuffer())
        wire.get_buffer(-1)[:3] = b"220"
        wire.buffer_updated(3)
        wire.connection_made(line)

        assert line.is_closing()
        with pytest.raises(NotHttp):
            await wire.answered()
        line.wire = wire
        await wire.hang_up()


def test_a_read_buffer_gives_its_first_bytes_as_they_are_now() -> None:
    """A part that is kept at hand shows what the latest read brought, and a long one is not kept."""
    buffer = ReadBuffer()
    for data in (b"ab", b"cd"):
        buffer.whole[:2] = data
        assert bytes(buffer[2]) == data

    assert len(buffer[READ_BYTES]) == READ_BYTES
    assert list(buffer) == [2]
