"""A reader has every byte once and in order, and then learns how it ended."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.answer import DONE, Answer, Done
from provider_agent.coordinator.failures import failed
from provider_agent.protocol.errors import ErrorCode

FAILED = failed(ErrorCode.STREAM_ERROR, "the engine failed")


def answer(limit_bytes: int = 1000) -> Answer:
    return Answer("j", limit_bytes)


async def test_bytes_come_in_order_and_then_the_end() -> None:
    """The ordinary case."""
    one = answer()
    one.feed(b"a")
    assert await one.read() == b"a"
    one.feed(b"b")
    one.end(DONE)

    assert await one.read() == b"b"
    assert one.is_whole
    assert await one.read() == DONE


async def test_an_error_has_its_own_status_until_one_was_sent() -> None:
    """That is when the first byte is taken, or when events are announced before it."""
    one = answer()
    one.start(201, "text/plain")
    one.feed(b"a")

    assert (one.status_for(FAILED), one.status_for(DONE)) == (FAILED.http_status, 201)
    one.announced = True
    assert one.status_for(FAILED) == 200
    one.announced = False
    await one.read()
    assert one.status_for(FAILED) == 201


async def test_bytes_that_wait_are_read_in_one_piece() -> None:
    """One write to the client instead of many."""
    one = answer()
    for part in (b"a", b"b", b"c"):
        one.feed(part)

    assert await one.read() == b"abc"


async def test_a_reader_that_waits_is_woken_by_the_first_byte() -> None:
    """Nothing is held back to fill a buffer (field notes 34, 69)."""
    one = answer()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(one.read())
        await asyncio.sleep(0)
        one.feed(b"x")

    assert reading.result() == b"x"


async def test_a_reader_that_wants_much_waits_until_it_is_there_or_no_more_will_come() -> None:
    """An answer that is not streamed is written once it is whole."""
    one = answer()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(one.read(at_least_bytes=10))
        await asyncio.sleep(0)
        one.feed(b"12345")
        await asyncio.sleep(0)
        assert not reading.done()
        one.end(DONE)

    assert reading.result() == b"12345"
    assert one.is_whole


async def test_a_read_that_is_given_up_loses_nothing() -> None:
    """A comment is written meanwhile, and the bytes come with the next read."""
    one = answer()
    reading = asyncio.ensure_future(one.read())
    await asyncio.sleep(0)
    one.feed(b"x")
    reading.cancel()
    await asyncio.wait([reading])

    assert await one.read() == b"x"


async def test_a_failure_comes_behind_the_bytes_that_the_reader_is_owed() -> None:
    """It has seen the first ones, so it gets the rest."""
    one = answer()
    one.feed(b"a")
    await one.read()
    one.feed(b"b")
    one.end(FAILED)

    assert [await one.read() for _ in range(3)] == [b"b", FAILED, FAILED]


async def test_a_failure_comes_alone_when_the_reader_has_seen_nothing() -> None:
    """Bytes of an attempt that failed are no answer: the client gets a clean error."""
    one = answer()
    one.feed(b"half")
    one.end(FAILED)

    assert await one.read() == FAILED
    assert not one.taken


async def test_a_reader_that_is_far_behind_is_told_of_by_feed() -> None:
    """What may wait is bounded, so memory is (field note 80)."""
    one = answer(limit_bytes=10)

    assert one.feed(b"12345")
    assert one.feed(b"67890")
    assert not one.feed(b"x")
    assert await one.read() == b"1234567890"
    assert one.feed(b"x")


async def test_one_piece_larger_than_the_limit_is_taken_when_nothing_waits() -> None:
    """Else an answer in one large frame could never be read."""
    one = answer(limit_bytes=10)

    assert one.feed(b"x" * 11)


async def test_what_the_engine_says_of_its_answer_is_known_once_it_is_here() -> None:
    """Until then, and of another attempt, nothing is."""
    one = answer()
    assert (one.http_status, one.content_type) == (200, "")

    one.start(201, "text/plain")
    assert (one.http_status, one.content_type) == (201, "text/plain")

    one.reset()
    assert (one.http_status, one.content_type) == (200, "")


async def test_waiting_for_the_first_byte_takes_nothing() -> None:
    """Another agent may still begin anew, until a reader has had a byte."""
    one = answer()
    one.feed(b"x")
    await one.ready()

    assert not one.taken
    assert await one.read() == b"x"
    assert one.taken


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=5), st.none()), max_size=30))
def test_however_writes_and_reads_fall_every_byte_comes_once_and_in_order(steps: list[bytes | None]) -> None:
    """None is a read, bytes are a write."""

    async def play() -> None:
        one, seen = answer(), b""
        for step in [*steps, None]:
            if step is not None:
                assert one.feed(step)
            elif one.total_bytes > len(seen):
                piece = await one.read()
                assert isinstance(piece, bytes)
                seen += piece
        one.end(DONE)
        assert b"".join(step for step in steps if step) == seen
        assert isinstance(await one.read(), Done)

    asyncio.run(play())
