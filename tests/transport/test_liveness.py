"""When a peer is pinged, when it is given up, and when the judge should rather ask again."""

import asyncio
from collections.abc import Iterator
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.transport.liveness import (
    LATE_S,
    LONGEST_LOOK_S,
    Liveness,
    Outflow,
    Patience,
    Verdict,
    Watch,
)


def liveness(now_s: float = 0.0) -> Liveness:
    return Liveness(now_s)


def test_a_talking_peer_is_never_pinged() -> None:
    """Any byte counts, and moves the next look."""
    peer = liveness()
    peer.heard_s = 4.0

    assert peer.judge(5.0) is Verdict.WAIT
    assert peer.due_s == 9.0


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    """Five seconds, a ping, five more: a dead link is noticed in ten (field note 38)."""
    peer = liveness()

    assert peer.judge(5.0) is Verdict.PING
    assert peer.due_s == 10.0
    assert peer.judge(10.0) is Verdict.DEAD


def test_any_byte_after_the_ping_is_life() -> None:
    """It need not be the pong: a long transfer is never cut."""
    peer = liveness()
    peer.judge(5.0)
    peer.heard_s = 9.9

    assert peer.judge(10.0) is Verdict.WAIT
    assert peer.due_s == 14.9


def test_a_late_judge_asks_again() -> None:
    """A loop that was blocked has not read what arrived meanwhile."""
    peer = liveness()
    peer.judge(5.0)

    assert peer.judge(10.0 + LATE_S + 0.1) is Verdict.PING
    assert peer.judge(16.1) is Verdict.DEAD


def test_an_early_look_waits() -> None:
    """Timers may fire a little early."""
    peer = liveness()
    peer.judge(5.0)

    assert peer.judge(9.9) is Verdict.WAIT
    assert peer.due_s == 10.0


@given(st.lists(st.tuples(st.floats(0.01, 20.0), st.booleans()), max_size=60))
def test_only_ten_silent_seconds_are_death(steps: list[tuple[float, bool]]) -> None:
    """Whatever the moments of looking and hearing: dead means asked, waited in time, and heard nothing."""
    peer, now_s = liveness(), 0.0
    for after_s, heard in steps:
        now_s += after_s
        if heard:
            peer.heard_s = now_s
        due_s, verdict = peer.due_s, peer.judge(now_s)
        if verdict is Verdict.DEAD:
            assert now_s - peer.heard_s >= 10.0
            assert now_s <= due_s + LATE_S
            return
        assert peer.due_s > now_s


@pytest.mark.parametrize(
    ("before", "after", "has_taken"),
    [
        (None, None, False),
        (None, 100, False),  # nothing waited then: what has left says nothing of the peer
        (100, 100, False),
        (100, 99, False),  # TLS adds to what waits
        (100, 101, True),
        (100, None, True),
    ],
)
def test_what_has_left_was_taken(before: int | None, after: int | None, has_taken: bool) -> None:
    """All that can be between two looks."""
    outflow = Outflow()
    outflow.look(0.0, before)

    assert outflow.look(5.0, after) is has_taken
    assert (outflow.stuck_s > 0) is (not has_taken and before is not None)


def test_the_time_of_a_stuck_peer_adds_up_until_it_takes_something() -> None:
    """However little: it lives, and the line is thin."""
    outflow = Outflow()
    for now_s in (0.0, 5.0, 9.0):
        outflow.look(now_s, 100)
    assert outflow.stuck_s == 9.0

    outflow.look(14.0, 101)
    assert outflow.stuck_s == 0.0


def test_a_late_look_counts_for_an_ordinary_one() -> None:
    """After a sleep of the machine the peer has a chance to take something first."""
    outflow = Outflow()
    outflow.look(0.0, 100)
    outflow.look(3600.0, 100)

    assert outflow.stuck_s == LONGEST_LOOK_S


class Line:
    """A connection that counts what a watch does to it."""

    def __init__(
        self, *, reading: bool = True, answers: bool = False, taken_bytes: Iterator[int | None] | None = None
    ) -> None:
        self.reading = reading
        self.verdicts: list[Verdict] = []
        self._taken_bytes = taken_bytes or repeat(None)
        self.pings = 0
        self.given_up = asyncio.Event()
        self.pinged = asyncio.Event()
        self._answers = answers
        self.watch = Watch(
            Patience(0.01, 0.01, stalled_after_s=0.02),
            is_reading=lambda: self.reading,
            taken_bytes=lambda: next(self._taken_bytes),
            ping=self._ping,
            give_up=self._give_up,
        )

    def _give_up(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.given_up.set()

    def _ping(self) -> None:
        self.pings += 1
        if self._answers:
            self.watch.liveness.heard_s = asyncio.get_running_loop().time()
        if self.pings == 3:
            self.pinged.set()


async def test_a_watch_gives_up_a_silent_line() -> None:
    """One ping, one wait, and it is over."""
    line = Line()
    async with asyncio.timeout(5):
        await line.given_up.wait()

    assert line.pings >= 1
    assert line.verdicts == [Verdict.DEAD]


async def test_a_watch_gives_up_a_line_that_talks_but_takes_nothing() -> None:
    """It may ask for what it never takes, and that would wait here without end."""
    line = Line(answers=True, taken_bytes=repeat(100))
    async with asyncio.timeout(5):
        await line.given_up.wait()

    assert line.verdicts == [Verdict.STALLED]


async def test_a_silent_line_that_takes_what_waits_lives() -> None:
    """A pong waits behind one long message over a thin line."""
    line = Line(taken_bytes=iter(range(100)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await line.given_up.wait()
    line.watch.stop()

    assert line.verdicts == []


async def test_a_watch_goes_on_pinging_a_line_that_answers() -> None:
    """A quiet peer is asked again and again, and lives."""
    line = Line(answers=True)
    async with asyncio.timeout(5):
        await line.pinged.wait()
    line.watch.stop()

    assert not line.given_up.is_set()


async def test_silence_proves_nothing_while_we_do_not_read() -> None:
    """Our own pause is not the peer's death."""
    line = Line(reading=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await line.given_up.wait()
    line.watch.stop()

    assert line.pings == 0


async def test_what_arrived_before_the_last_look_is_life() -> None:
    """The final word is spoken only after the loop has read once more."""
    line = Line()
    line.watch._judge_finally(heard_s=line.watch.liveness.heard_s - 1)
    line.watch.stop()

    assert not line.given_up.is_set()
