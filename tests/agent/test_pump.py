"""Bytes go straight through; a wait is watched, and only a peer that is there and takes nothing is stuck."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from provider_agent.agent.pump import LOOKS, Pump
from provider_agent.backends.base import StreamTruncated, Usage
from provider_agent.protocol.window import WINDOW_BYTES
from provider_agent.transport.lane import Lane
from tests.fakes.backends import ScriptedReply
from tests.fakes.outlets import FullLine, Line
from tests.simulation.loop import run_virtually

PATIENCE_S = 30.0
HALF = bytes(WINDOW_BYTES // 2)


@dataclass
class Stage:
    """A pump between an engine's answer and a line, on a clock that jumps.

    Attributes:
        stuck_s: when the pump complained.
    """

    reply: ScriptedReply
    line: Line = field(default_factory=Line)
    window_bytes: int | None = WINDOW_BYTES
    stuck_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.lane = Lane("j", window_bytes=self.window_bytes)
        self.pump = Pump(self.lane, clock=self.loop.time, patience_s=PATIENCE_S)
        self.pump.on_stuck = lambda: self.stuck_s.append(self.loop.time())
        self.line.channel.attach(self.lane)
        self.relaying = asyncio.ensure_future(self._whole())

    async def _whole(self) -> None:
        await self.pump.relay(self.reply)
        await self.pump.drained()

    def ack(self) -> None:
        """Everything that has left so far."""
        self.lane.ack(self.lane.window.next_seq - 1)

    async def end(self) -> None:
        self.relaying.cancel()
        await asyncio.wait([self.relaying])
        self.pump.close()


def stage(*steps: bytes | Exception | asyncio.Event, **parts: object) -> Stage:
    return Stage(ScriptedReply(steps, Usage()), **parts)  # type: ignore[arg-type]


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test runs on a loop whose clock jumps."""

    def run() -> None:
        run_virtually(test())  # type: ignore[arg-type]

    run.__doc__ = test.__doc__
    return run


@virtually
async def test_bytes_pass_in_order_and_are_counted() -> None:
    """The ordinary case: nobody waits, and nothing is left behind."""
    now = stage(b"Hel", b"lo")
    await now.relaying

    assert now.line.body("j") == b"Hello"
    assert (now.pump.relayed_bytes, now.pump.stalled_s, now.pump.first_byte_s) == (5, 0.0, 0.0)
    assert now.reply.pauses == 0


@virtually
async def test_a_full_window_pauses_the_engine_until_there_is_room() -> None:
    """A slow client slows its own engine (field note 11); the time is told."""
    now = stage(HALF, HALF, HALF, b"end")
    await asyncio.sleep(1.0)
    assert now.reply.is_paused
    assert now.pump.relayed_bytes == WINDOW_BYTES

    now.ack()
    await now.relaying
    assert now.line.body("j") == HALF * 3 + b"end"
    assert now.pump.stalled_s == pytest.approx(1.0)


@virtually
async def test_what_comes_in_spite_of_a_pause_is_kept() -> None:
    """One read of the engine may be parsed already."""
    now = stage(HALF, HALF, asyncio.Event())
    await asyncio.sleep(0.1)
    now.pump.take(b"late")
    now.ack()
    await asyncio.sleep(0.1)
    await now.end()

    assert now.line.body("j") == HALF * 2 + b"late"
    assert now.reply.pauses == 1


@virtually
async def test_it_is_not_over_before_every_byte_has_left() -> None:
    """The engine is done; the window is full (I2: the outcome comes behind the bytes)."""
    now = stage(HALF, HALF + b"rest")
    await asyncio.sleep(1.0)
    assert not now.relaying.done()

    now.ack()
    await now.relaying
    assert now.line.body("j") == HALF * 2 + b"rest"


@virtually
async def test_an_answer_that_breaks_off_says_so_at_once() -> None:
    """What came before it can still be waited for."""
    now = stage(b"Hel", StreamTruncated("cut"))
    with pytest.raises(StreamTruncated):
        await now.relaying
    await now.pump.drained()

    assert now.line.body("j") == b"Hel"


@virtually
async def test_a_peer_that_takes_nothing_for_its_time_is_stuck() -> None:
    """Thirty seconds without one acknowledgement, while the window is full (protocol.md 5)."""
    now = stage(HALF, HALF, b"more")
    await asyncio.sleep(PATIENCE_S - 0.1)
    assert now.stuck_s == []
    await asyncio.sleep(0.2)
    assert now.stuck_s == [pytest.approx(PATIENCE_S)]
    await now.end()

    assert now.pump.stalled_s == pytest.approx(PATIENCE_S + 0.1)


@virtually
async def test_a_peer_that_takes_a_little_now_and_then_is_slow_and_not_stuck() -> None:
    """One chunk each 25 s, for minutes: a thin line is no dead one (field note 11)."""
    now = stage(*[HALF] * 10)
    await asyncio.sleep(0)
    for seq in range(10):
        await asyncio.sleep(25.0)
        now.lane.ack(seq)
    await asyncio.sleep(25.0)

    assert now.stuck_s == []
    await now.end()


@virtually
async def test_time_stands_still_while_no_peer_is_there() -> None:
    """A lost session is not held against whoever comes back (protocol.md 7)."""
    now = stage(HALF, HALF, b"more")
    await asyncio.sleep(PATIENCE_S / 2)
    await now.line.cut()
    await asyncio.sleep(PATIENCE_S * 100)
    assert now.stuck_s == []

    now.lane.resume(0)
    Line().channel.attach(now.lane)
    await asyncio.sleep(PATIENCE_S / 2 - PATIENCE_S / LOOKS - 0.1)
    assert now.stuck_s == []
    await asyncio.sleep(PATIENCE_S / LOOKS * 2 + 0.2)
    assert len(now.stuck_s) == 1
    await now.end()


@virtually
async def test_where_nothing_is_acknowledged_what_leaves_counts() -> None:
    """Protocol 2: the bounded lane stands in for the window."""
    line = FullLine(protocol=2)
    now = stage(b"first", HALF, HALF, b"more", line=line, window_bytes=None)
    await asyncio.sleep(PATIENCE_S - 1)
    line.release()
    await now.relaying

    assert now.stuck_s == []
    assert line.body("j") == b"first" + HALF * 2 + b"more"


@virtually
async def test_where_nothing_is_acknowledged_and_nothing_leaves_the_peer_is_stuck() -> None:
    """Protocol 2, and the socket stays full."""
    line = FullLine(protocol=2)
    now = stage(b"first", HALF, HALF, HALF, line=line, window_bytes=None)
    await asyncio.sleep(PATIENCE_S + 1)

    assert len(now.stuck_s) == 1
    await now.end()


@virtually
async def test_a_pump_that_is_closed_watches_nobody() -> None:
    """No timer outlives its job, and what the lane says then reaches no engine."""
    now = stage(HALF, HALF, b"more")
    await asyncio.sleep(1.0)
    await now.end()
    now.ack()
    await asyncio.sleep(PATIENCE_S * 2)

    assert now.stuck_s == []
    assert now.reply.is_paused
