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


async def test_waiting_may_be_limited() -> None:
    """So that the client can be told meanwhile that its answer lives (field note 74)."""
    one = answer()
    assert not await one.ready(within_s=0.0)
    assert not await one.ready(within_s=0.001)

    one.feed(b"x")
    assert await one.ready(within_s=0.0)


async def test_a_limited_wait_goes_on_when_an_attempt_is_forgotten_meanwhile() -> None:
    """It has woken whoever waits; but what woke it is gone by then."""
    one = answer()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(one.ready(within_s=60.0))
        await asyncio.sleep(0)
        one.feed(b"x")
        one.reset()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        one.feed(b"y")

    assert waiting.result()


async def test_the_end_can_be_waited_for_whatever_becomes_of_the_bytes() -> None:
    """They are pushed meanwhile."""
    one = answer()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(one.ended())
        await asyncio.sleep(0)
        one.feed(b"x")
        await asyncio.sleep(0)
        assert not waiting.done()
        one.end(FAILED)

    assert waiting.result() == FAILED
    assert await one.ended() == FAILED


# --- taking -----------------------------------------------------------------------------


def test_whoever_asks_is_told_of_bytes_from_within_feed() -> None:
    """From so many on, until it asks no more."""
    one, told = answer(), list[int]()
    one.tell_at_bytes, one.tell = 3, lambda: told.append(one.waiting_bytes)
    for data in (b"12", b"3", b"4"):
        one.feed(data)
    one.tell_nobody()
    one.feed(b"5")

    assert told == [3, 4]


def test_whole_pieces_are_taken_until_there_is_enough() -> None:
    """Pieces are never cut: that would cost a copy."""
    one = answer()
    for data in (b"12", b"34", b"56", b"7"):
        one.feed(data)

    assert [one.take(3), one.take(1), one.take(), one.take()] == [b"1234", b"56", b"7", b""]
    assert one.waiting_bytes == 0


def test_taking_nothing_is_no_beginning() -> None:
    """Another agent may still begin anew."""
    one = answer()

    assert one.take() == b""
    assert not one.taken


def test_the_end_mark_is_known_however_it_was_cut() -> None:
    """A client that leaves at it has all."""
    for mark in (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n"):
        for cut in range(len(mark)):
            for before in (b"", b"data: 1\n\n", b"x" * 1000):
                one = answer(limit_bytes=10_000)
                for part in (before + mark[:cut], mark[cut:]):
                    assert not one.has_end_mark
                    one.feed(part)
                    one.take()
                assert one.has_end_mark


# --- what has been consumed -------------------------------------------------------------


async def test_what_is_read_is_consumed() -> None:
    """Not before."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.feed(b"12")
    one.feed(b"3")
    assert told == []

    await one.read()
    assert told == [3]
    one.feed(b"4")
    await one.read()
    assert told == [3, 4]


def test_what_is_taken_is_consumed_when_its_taker_says_so() -> None:
    """As far as it says so, and never less than it said before."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.feed(b"12345")
    one.take()
    assert told == []

    one.consumed(but_bytes=2)
    one.consumed(but_bytes=4)
    one.consumed()
    one.consumed()
    assert told == [3, 5]


def test_what_is_held_is_consumed_as_it_arrives() -> None:
    """It is stored; but what goes beyond waits for its client."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.feed(b"12")
    one.hold(5)
    for data in (b"3", b"45", b"6"):
        one.feed(data)
    assert told == [2, 3, 5]

    one.take()
    one.consumed()
    one.feed(b"7")
    assert told == [2, 3, 5, 6]


def test_an_answer_whose_client_has_its_beginning_is_not_held_any_more() -> None:
    """What follows is consumed as the client takes it."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.hold(100)
    one.feed(b"12")
    one.take()
    one.feed(b"3")

    assert told == [2]


def test_a_new_attempt_is_counted_from_its_own_beginning() -> None:
    """Its agent has sent nothing yet."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.hold(100)
    one.feed(b"12345")
    one.reset()
    one.feed(b"12")

    assert told == [5, 2]
    assert (one.total_bytes, one.consumed_bytes) == (2, 2)


async def test_after_the_end_nothing_is_told() -> None:
    """The agent has been told of all with the acknowledgement of its outcome."""
    told: list[int] = []
    one = Answer("j", 1000, told.append)
    one.feed(b"12345")
    one.end(DONE)
    await one.read()

    assert told == []


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
