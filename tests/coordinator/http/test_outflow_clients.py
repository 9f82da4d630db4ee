"""Clients on real sockets, slow ones, leaving ones and old ones: each byte comes once and in order."""

import asyncio
import ssl

import pytest
import trustme

from provider_agent.coordinator.answer import DONE
from provider_agent.coordinator.failures import failed
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.window import WINDOW_BYTES
from tests.fakes.answering import HOST, Asked, Door, dechunk, door, read_body, read_head
from tests.fakes.coordinators import until

FAILED = failed(ErrorCode.STREAM_ERROR, "the engine failed")
CHUNK_BYTES = 8192
TOKENS = [b'data: {"n":%d}\n\n' % i for i in range(10_000)]
LARGE = [bytes([i % 251]) * CHUNK_BYTES for i in range(256)]
"""2 MiB: far more than kernels, transport and window hold together."""


async def exchange(it: Door) -> None:
    """Another client asks, and has its answer."""
    reader, writer = await it.client()
    asked = await it.asked()
    await asked.supply_all(b"data: brisk\n\n")
    assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
    assert await read_body(reader) == b"data: brisk\n\n"
    writer.close()


def is_stuck(asked: Asked) -> bool:
    """Whether its agent may send no more, as its window is full."""
    return asked.unconsumed_bytes + CHUNK_BYTES > WINDOW_BYTES


async def stall(it: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Asked]:
    """A client that has read the beginning of a large answer, and reads no more."""
    reader, writer = await it.client(lazy=True)
    asked = await it.asked()
    it.tasks.create_task(asked.supply_all(*LARGE))
    await read_head(reader)
    await until(lambda: is_stuck(asked))
    return reader, writer, asked


async def read_head_of(asked: Asked, reader: asyncio.StreamReader) -> None:
    """Have the stream opened."""
    asked.give(b"x")
    await read_head(reader)


async def fill(asked: Asked, reader: asyncio.StreamReader) -> None:
    """Have a stream opened, and sent to a client that does not read until the window is full."""
    await read_head_of(asked, reader)
    while not is_stuck(asked):
        asked.give(b"x" * CHUNK_BYTES)
        await asyncio.sleep(0)


async def test_a_client_that_stops_reading_stops_its_own_agent_and_nobody_else() -> None:
    """What waits for it stays within the window (field notes 11, 80)."""
    async with door() as it:
        _, writer, asked = await stall(it)
        told: list[int] = []
        while asked.told != told:  # the kernels on the way take some more
            told = list(asked.told)
            for _ in range(20):
                await exchange(it)

        assert is_stuck(asked)
        assert asked.most_waiting_bytes <= WINDOW_BYTES
        assert asked.consumed_bytes < asked.answer.total_bytes
        writer.transport.abort()
        await asked.over.wait()


async def test_a_client_that_reads_again_gets_every_byte() -> None:
    """It sees a pause."""
    async with door() as it:
        reader, writer, asked = await stall(it)

        assert await read_body(reader) == b"".join(LARGE)
        assert asked.most_waiting_bytes <= WINDOW_BYTES
        assert asked.told == sorted(set(asked.told))
        writer.close()


@pytest.mark.parametrize("lazy", [False, True], ids=["normal", "slow"])
async def test_a_burst_of_ten_thousand_chunks_arrives_whole(lazy: bool) -> None:
    """Peers cut it after a thousand (field note 80)."""
    async with door() as it:
        reader, writer = await it.client(lazy=lazy)
        asked = await it.asked()
        it.tasks.create_task(asked.supply_all(*TOKENS))
        await read_head(reader)

        assert await read_body(reader) == b"".join(TOKENS)
        writer.close()


async def test_a_failure_behind_a_stall_comes_behind_every_byte_that_is_owed() -> None:
    """As an event, and no end that looks whole (field notes 28, 75)."""
    async with door() as it:
        reader, writer = await it.client(lazy=True)
        asked = await it.asked()
        await fill(asked, reader)
        total = asked.answer.total_bytes
        asked.answer.end(FAILED)
        body = await read_body(reader)

        assert body.startswith(b"x" * total)
        assert body[total:].startswith(b'\n\ndata: {"error":')
        writer.close()


# --- clients that leave ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "close", "half close"])
async def test_a_client_that_leaves_while_it_is_stalled_ends_its_job_at_once(how: str) -> None:
    """However much still waits for it (field note 70)."""
    async with door() as it:
        reader, writer = await it.client(lazy=True)
        asked = await it.asked()
        await fill(asked, reader)
        assert not asked.over.is_set()
        {"abort": writer.transport.abort, "close": writer.close, "half close": writer.write_eof}[how]()
        async with asyncio.timeout(1):
            await asked.over.wait()
        writer.close()


async def test_a_client_that_takes_nothing_for_too_long_is_cut() -> None:
    """It keeps its connection, and a slot of the engine's."""
    async with door(write_patience_s=0.1) as it:
        reader, writer = await it.client(lazy=True)
        asked = await it.asked()
        await fill(asked, reader)
        await asked.over.wait()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await read_body(reader)
        writer.close()


async def test_a_client_that_does_not_take_the_end_of_its_answer_is_cut_too() -> None:
    """Its job is over, but its connection costs memory."""
    async with door(write_patience_s=0.1) as it:
        reader, writer = await it.client(lazy=True, stream=False)
        asked = await it.asked()
        for _ in range(128):
            asked.give(b"x" * CHUNK_BYTES)
        asked.answer.end(DONE)
        await asked.over.wait()
        await read_head(reader)
        await until(lambda: not it.connections)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(128 * CHUNK_BYTES)
        writer.close()


# --- what is not streamed ----------------------------------------------------------------


async def test_an_answer_that_is_held_counts_as_consumed_as_it_arrives() -> None:
    """A window of 256 KiB could else never bring a whole one of up to 1 MiB."""
    async with door() as it:
        reader, writer = await it.client(stream=False)
        asked = await it.asked()
        body = LARGE[:100]
        await asked.supply_all(*body)
        head = await read_head(reader)

        assert b"Content-Length: %d\r\n" % len(b"".join(body)) in head
        assert await reader.readexactly(100 * CHUNK_BYTES) == b"".join(body)
        writer.close()


async def test_an_answer_too_large_to_be_held_goes_as_far_as_the_client_takes_it() -> None:
    """From there on, its window is that of a streamed one."""
    async with door() as it:
        reader, writer = await it.client(stream=False, lazy=True)
        asked = await it.asked()
        many = LARGE * 2
        it.tasks.create_task(asked.supply_all(*many))
        await read_head(reader)
        await until(lambda: is_stuck(asked))
        assert asked.answer.total_bytes < len(b"".join(many))

        assert await read_body(reader) == b"".join(many)
        writer.close()


# --- forms of HTTP -----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.0\r\nConnection: keep-alive"])
async def test_a_client_of_http_1_0_gets_the_bytes_and_then_the_end_of_the_connection(version: str) -> None:
    """There is no other sign of the end that it knows."""
    async with door() as it:
        reader, writer = await it.client(version=version)
        asked = await it.asked()
        await read_head_of(asked, reader)
        await asked.supply_all(*TOKENS)

        assert await reader.read() == b"x" + b"".join(TOKENS)
        writer.close()


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_an_answer_never_stands_behind_the_head_of_a_response_without_a_body(status: int) -> None:
    """Else an agent could write the next response of the connection, which may be somebody else's."""
    async with door() as it:
        reader, writer = await it.client(stream=False, times=2)
        asked = await it.asked()
        asked.answer.start(status, "application/json")
        it.tasks.create_task(asked.supply_all(*LARGE))

        assert (await read_head(reader)).startswith(b"HTTP/1.1 502 ")
        assert await read_body(reader) == b"".join(LARGE)
        (await it.asked()).answer.end(FAILED)
        assert (await read_head(reader)).startswith(b"HTTP/1.1 502 ")
        writer.close()


async def test_requests_that_were_sent_at_once_get_their_answers_in_turn() -> None:
    """Over one connection, each with its own end."""
    async with door() as it:
        reader, writer = await it.client(times=3)
        for i in range(3):
            asked = await it.asked()
            await read_head_of(asked, reader)
            await asked.supply_all(*TOKENS[: 100 * i])
            assert await read_body(reader) == b"x" + b"".join(TOKENS[: 100 * i])
        writer.close()


async def test_an_answer_that_is_there_at_once_is_one_piece() -> None:
    """Head, bytes and end; and the connection is fit for the next request."""
    async with door() as it:
        reader, writer = await it.client(times=2)
        for _ in range(2):
            asked = await it.asked()
            asked.give(TOKENS[0])
            asked.answer.end(DONE)
            await read_head(reader)
            rest = await reader.readuntil(b"0\r\n\r\n")
            assert dechunk(rest) == (TOKENS[0], b"")
        writer.close()


async def test_a_stalled_client_behind_tls_gets_every_byte_when_it_reads_again() -> None:
    """There, two buffers lie between us and the socket."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with door(tls=tls, trust=trust) as it:
        reader, writer, asked = await stall(it)

        assert await read_body(reader) == b"".join(LARGE)
        assert asked.most_waiting_bytes <= WINDOW_BYTES
        writer.close()
