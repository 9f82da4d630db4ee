"""Wires that no job holds; their other ends are in the test's hand."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from provider_agent.backends.pool import MAX_RESTING, Pool
from tests.fakes.transports import LooseTransport

LATE_S = 5.0
KEY = ("http://127.0.0.1:1", "sk-1")
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
HALF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
END = b"0\r\n\r\n"


@pytest.fixture
def lines() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def answered(lines: ExitStack, answer: bytes = WHOLE) -> LooseTransport:
    """A connection whose job has just ended."""
    line = lines.enter_context(LooseTransport())
    line.arrive(answer)
    return line


async def test_a_connection_waits_for_the_next_job(lines: ExitStack) -> None:
    """The last one first: it is the least likely to have been closed meanwhile."""
    pool = Pool()
    first, last = answered(lines), answered(lines)

    assert pool.keep(KEY, first.wire)
    assert pool.keep(KEY, last.wire)
    assert pool.take(KEY) is last.wire
    assert pool.take(KEY) is first.wire
    assert pool.take(KEY) is None


@pytest.mark.parametrize("key", [("http://127.0.0.1:2", "sk-1"), ("http://127.0.0.1:1", None)])
async def test_nobody_gets_anothers_connection(lines: ExitStack, key: tuple[str, str | None]) -> None:
    """Neither of another engine, nor of another key."""
    pool = Pool()
    pool.keep(KEY, answered(lines).wire)

    assert pool.take(key) is None
    await pool.close()


@pytest.mark.parametrize("answer", [WHOLE + b"more", b"HTTP/1.1 200 OK\r\n\r\nabc"])
async def test_what_is_of_no_use_is_not_kept(lines: ExitStack, answer: bytes) -> None:
    """More came than was asked for, or the body ends with the connection."""
    assert not Pool().keep(KEY, answered(lines, answer).wire)


@pytest.mark.parametrize("seen", [True, False])
async def test_a_connection_that_says_something_is_thrown_away(lines: ExitStack, seen: bool) -> None:
    """Whether the loop has seen it or not: it would be taken for the next answer."""
    pool, line = Pool(), answered(lines)
    pool.keep(KEY, line.wire)
    if seen:
        line.arrive(WHOLE)
    else:
        line.far_end.send(WHOLE)

    assert pool.take(KEY) is None
    await asyncio.wait_for(line.lost.wait(), LATE_S)


@pytest.mark.parametrize("seen", [True, False])
async def test_a_connection_that_the_engine_closes_is_gone_at_once(lines: ExitStack, seen: bool) -> None:
    """Engines close after an answer although they announce to keep the connection."""
    pool, line = Pool(), answered(lines)
    pool.keep(KEY, line.wire)
    if seen:
        line.lose()
        assert pool._resting[KEY] == {}
    else:
        line.far_end.close()

    assert pool.take(KEY) is None


async def test_a_connection_rests_for_a_while_only(lines: ExitStack) -> None:
    """The longer it rests, the likelier it is closed just when it is needed."""
    pool, line = Pool(rest_s=0.02), answered(lines)
    pool.keep(KEY, line.wire)
    await asyncio.wait_for(line.lost.wait(), LATE_S)

    assert pool._resting == {}


async def test_no_more_rest_than_are_allowed(lines: ExitStack) -> None:
    """The one that rested longest goes."""
    pool, first = Pool(), answered(lines)
    pool.keep(KEY, first.wire)
    for _ in range(MAX_RESTING):
        pool.keep(KEY, answered(lines).wire)

    assert len(pool._resting[KEY]) == MAX_RESTING
    await asyncio.wait_for(first.lost.wait(), LATE_S)
    await pool.close()


async def test_the_end_of_a_body_may_come_a_moment_after_that_of_the_answer(lines: ExitStack) -> None:
    """Many servers write it apart; the job does not wait for it."""
    pool, line = Pool(), answered(lines, HALF)

    assert pool.keep(KEY, line.wire)
    assert pool.take(KEY) is None
    line.arrive(END)
    assert pool.take(KEY) is line.wire


@pytest.mark.parametrize("said", [b"", END + b"more", b"zz"])
async def test_a_body_that_does_not_end_takes_its_connection_along(lines: ExitStack, said: bytes) -> None:
    """Or one that ends in something else."""
    pool, line = Pool(end_mark_s=0.02), answered(lines, HALF)
    pool.keep(KEY, line.wire)
    if said:
        line.arrive(said)
    await asyncio.wait_for(line.lost.wait(), LATE_S)

    assert pool.take(KEY) is None
    assert pool._ending == set()


async def test_closing_leaves_nothing_open(lines: ExitStack) -> None:
    """What rests, and what is about to."""
    pool, resting, ending = Pool(), answered(lines), answered(lines, HALF)
    pool.keep(KEY, resting.wire)
    pool.keep(KEY, ending.wire)
    await pool.close()

    assert (resting.lost.is_set(), ending.lost.is_set()) == (True, True)
