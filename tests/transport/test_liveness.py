"""When a peer is pinged, when it is given up, and when the judge should rather ask again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.transport.liveness import LATE_S, Ear, Liveness, Verdict, Watch


def liveness(now_s: float = 0.0) -> Liveness:
    return Liveness(now_s, ping_after_s=5.0, dead_after_s=5.0)


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


class Line:
    """A connection that counts what a watch does to it."""

    def __init__(self, *, reading: bool = True, answers: bool = False) -> None:
        self.reading = reading
        self.pings = 0
        self.given_up = asyncio.Event()
        self.pinged = asyncio.Event()
        self._answers = answers
        loop = asyncio.get_running_loop()
        self.watch = Watch(
            Liveness(loop.time(), ping_after_s=0.01, dead_after_s=0.01),
            is_reading=lambda: self.reading,
            ping=self._ping,
            give_up=self.given_up.set,
        )

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


class Protocol(asyncio.Protocol):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.told.append(data.decode())

    def eof_received(self) -> bool:
        self.told.append("eof")
        return True

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(f"lost: {exc}")


async def test_an_ear_hears_each_byte_and_hides_nothing() -> None:
    """The protocol behind it is told all that a transport tells."""
    protocol, peer = Protocol(), liveness(-1.0)
    ear = Ear(protocol, peer)
    ear.data_received(b"x")

    assert peer.heard_s > 0

    ear.pause_writing()
    ear.resume_writing()
    assert ear.eof_received() is True
    ear.connection_lost(ValueError("v"))

    assert protocol.told == ["x", "pause", "resume", "eof", "lost: v"]
