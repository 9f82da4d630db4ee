"""Replies over a wire whose other end is in the test's hand."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.backends.base import (
    BackendError,
    FirstByteTimeout,
    IdleTimeout,
    StreamTruncated,
    Usage,
)
from provider_agent.backends.reply import BELIEVED_S, HttpReply
from provider_agent.backends.stream import EventScanner
from provider_agent.backends.wire import READ_BYTES
from tests.fakes.engine import DONE, chat_chunk, usage_event
from tests.fakes.scanning import BORDERS, split
from tests.fakes.takers import BrokenTaker, SlowTaker, Taker, relaying
from tests.fakes.transports import LooseTransport

LATE_S = 5.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def reply_of(
    line: LooseTransport,
    *,
    idle_s: float = LATE_S,
    first_byte_s: float = LATE_S,
    believed_s: float = BELIEVED_S,
) -> HttpReply:
    """The head is here, and with it the reply."""
    line.wire.silence.begin(first_byte_s)
    head = await line.wire.answered()
    line.wire.silence.pause()
    scanner = EventScanner(drops_usage=True)
    return HttpReply(line.wire, head, scanner, idle_s=idle_s, believed_s=believed_s)


async def test_an_answer_that_is_here_already_is_relayed_at_once() -> None:
    """In one piece; the event that only we asked for is not in it."""
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(chat_chunk("a", "stop")) + chunk(usage_event(3, 2) + DONE) + END)
        reply, taker = await reply_of(line), Taker()
        await reply.relay(taker)

        assert taker.pieces == [chat_chunk("a", "stop") + DONE]
        assert (reply.usage, reply.is_whole) == (Usage(3, 2), True)


async def test_a_token_is_taken_within_the_read_that_brings_it() -> None:
    """Field note 34: no turn of the loop is between."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply, taker = await reply_of(line), Taker()
        async with relaying(reply, taker) as job:
            await asyncio.sleep(0)
            line.arrive(chunk(chat_chunk("a")))
            assert taker.pieces == [chat_chunk("a")]
            line.arrive(chunk(chat_chunk("b")))
            assert taker.pieces == [chat_chunk("a"), chat_chunk("b")]
            line.arrive(chunk(chat_chunk("", "stop") + DONE))
            await job

        assert reply.is_whole


async def test_a_pause_stops_the_reading() -> None:
    """It may come from within the taking; what waits in the system waits there."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply = await reply_of(line)
        taker = SlowTaker(reply)
        async with relaying(reply, taker):
            await asyncio.sleep(0)
            line.arrive(chunk(chat_chunk("a")))
            assert line.is_paused
            reply.resume()
            assert not line.is_paused


async def test_an_answer_that_is_over_holds_up_nobody() -> None:
    """Its connection may serve another job by now."""
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(chat_chunk("a", "stop") + DONE) + END)
        reply = await reply_of(line)
        await reply.relay(Taker())
        reply.pause()

        assert not line.is_paused


async def test_paused_time_is_not_the_engines() -> None:
    """And what is silent afterwards is."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply = await reply_of(line, idle_s=0.02)
        taker = SlowTaker(reply)
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        async with asyncio.timeout(LATE_S), relaying(reply, taker) as job:
            await asyncio.sleep(0)
            line.arrive(chunk(chat_chunk("a")))
            loop.call_later(0.1, passed.set_result, None)
            await passed
            assert not job.done()
            reply.resume()
            with pytest.raises(IdleTimeout):
                await job


async def test_a_ping_does_not_begin_the_answer() -> None:
    """Prefill goes on: the limit for the first byte holds, and another engine may still be asked."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply, taker = await reply_of(line, idle_s=0.02), Taker()
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        async with asyncio.timeout(LATE_S), relaying(reply, taker) as job:
            await asyncio.sleep(0)
            line.arrive(chunk(b": ping\n\n"))
            loop.call_later(0.1, passed.set_result, None)
            await passed
            assert not job.done()
            line.arrive(chunk(chat_chunk("a")))
            with pytest.raises(IdleTimeout):
                await job

        assert taker.taken == chat_chunk("a")


async def test_who_does_nothing_but_ping_is_given_up_in_the_end() -> None:
    """Else a proxy whose engine is gone would hold a slot for as long as its client waits."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply, taker = await reply_of(line, first_byte_s=0.05, believed_s=0.1), Taker()
        loop = asyncio.get_running_loop()

        def ping() -> None:
            if not line.is_closing():
                line.arrive(chunk(b": ping\n\n"))
                loop.call_later(0.01, ping)

        ping()
        begun_s = loop.time()
        with pytest.raises(FirstByteTimeout):
            async with asyncio.timeout(LATE_S):
                await reply.relay(taker)
        line.abort()

        assert loop.time() - begun_s >= 0.1
        assert taker.taken == b""


async def test_a_ping_amid_the_answer_is_relayed() -> None:
    """It is the engine's, and the client's connection needs it, too."""
    body = chat_chunk("a") + b": ping\n\n" + chat_chunk("b", "stop") + DONE
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(b": ping\n\n" + body) + END)
        reply, taker = await reply_of(line), Taker()
        await reply.relay(taker)

        assert taker.taken == body


async def test_what_the_taker_raises_is_raised_to_who_relays() -> None:
    """A defect ends its own job: the loop, whose callback it is in, hears nothing of it."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply = await reply_of(line)
        async with relaying(reply, BrokenTaker()) as job:
            await asyncio.sleep(0)
            line.arrive(chunk(chat_chunk("a")))
            with pytest.raises(KeyError):
                await job

        assert not reply.is_whole


async def test_what_follows_the_end_is_not_taken() -> None:
    """Nobody waits for it, either."""
    with LooseTransport() as line:
        line.arrive(HEAD)
        reply, taker = await reply_of(line), Taker()
        async with relaying(reply, taker) as job:
            await asyncio.sleep(0)
            line.arrive(chunk(chat_chunk("a", "stop") + DONE))
            line.arrive(chunk(chat_chunk("more")))
            await job

        assert taker.taken == chat_chunk("a", "stop") + DONE


async def test_a_cut_amid_the_answer_is_no_end() -> None:
    """Field note 28; what came is taken, and the connection's own error is the cause."""
    with LooseTransport() as line:
        line.arrive(HEAD + chunk(chat_chunk("a")))
        line.lose(ConnectionResetError())
        reply, taker = await reply_of(line), Taker()
        with pytest.raises(StreamTruncated) as caught:
            await reply.relay(taker)

        assert taker.taken == chat_chunk("a")
        assert caught.value.__cause__ is not None


ANSWERS = st.sampled_from(
    [
        chat_chunk("Hel") + chat_chunk("lo") + chat_chunk("", "stop") + usage_event(3, 2) + DONE,
        chat_chunk("a") * 300 + DONE,
        chat_chunk("a") + chat_chunk("b"),
        chat_chunk("a") + b'data: {"error":{"message":"x"}}\n\n' + DONE,
        b"<html>",
        b"",
    ]
)


async def relayed(reads: list[bytes]) -> tuple[bytes, Usage, str]:
    with LooseTransport() as line:
        coming, taker = iter(reads), Taker()
        while line.wire._framing.head is None:
            line.arrive(next(coming))
        reply = await reply_of(line)
        async with relaying(reply, taker) as job:
            await asyncio.sleep(0)
            for read in coming:
                line.arrive(read)
            line.lose()
            try:
                await job
            except BackendError as error:
                return taker.taken, reply.usage, str(error)
        return taker.taken, reply.usage, "whole"


@given(ANSWERS, BORDERS, BORDERS, st.booleans())
@example(chat_chunk("a") + DONE, [], list(range(0, 1000, 7)), True)
def test_any_split_of_an_answer_gives_the_same_bytes_usage_and_verdict(
    body: bytes, chunks: list[int], reads: list[int], whole: bool
) -> None:
    """Of its chunks by the engine, and of its bytes by the network; also where the connection is cut."""
    wire = HEAD + b"".join(chunk(piece) for piece in split(body, chunks) if piece) + (END if whole else b"")
    pieces = [piece for piece in split(wire, reads) if piece]
    in_one = HEAD + (chunk(body) if body else b"") + (END if whole else b"")

    assert len(in_one) < READ_BYTES
    assert asyncio.run(relayed(pieces)) == asyncio.run(relayed([in_one]))
