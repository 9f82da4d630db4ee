"""When the agent rests, what it says meanwhile, and that it is back at the minute."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from provider_agent.agent.config_sections import ScheduleSection
from provider_agent.agent.gpu_watch import LOOKS_UNTIL_BUSY, LOOKS_UNTIL_FREE, GpuWatch
from provider_agent.agent.pause import Pause
from provider_agent.agent.routing import Refusal
from provider_agent.protocol.errors import ErrorCode
from tests.fakes.clocks import ManualClock
from tests.fakes.gpus import BlindGpuUse, ScriptedGpuUse
from tests.fakes.logs import LogLines

NIGHT = ScheduleSection(active="22:00-07:00", timezone="UTC")
GPU = ScheduleSection(pause_when_gpu_busy=True)


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-05-04 {text}").replace(tzinfo=UTC).timestamp()


class Bench:
    """A pause whose clock is moved by hand, and which never waits for long.

    Attributes:
        waits: how long it would have waited, each time.
        changes: when a pause began or ended, and which.
    """

    def __init__(self, section: ScheduleSection, now: str, use: ScriptedGpuUse | None = None) -> None:
        self.clock = ManualClock(at(now))
        self.use = use or ScriptedGpuUse()
        self.waits: list[float] = []
        self.changes: list[tuple[float, str | None]] = []
        self._left = 0
        self._enough = asyncio.Event()
        self.pause = Pause(
            section, GpuWatch(lambda: {11434}, find=lambda: self.use), clock=self.clock, wait=self.wait
        )
        self.pause.on_change = self.note

    def note(self) -> None:
        rest = self.pause.rest
        self.changes.append((self.clock(), None if rest is None else rest.why))

    async def wait(self, wait_s: float, until: asyncio.Event) -> None:
        self.waits.append(wait_s)
        self.clock.advance(wait_s)
        self._left -= 1
        if self._left <= 0:
            self._enough.set()
        await asyncio.sleep(0)

    async def runs(self, looks: int) -> None:
        """Let it look so often."""
        async with self.running(looks):
            pass

    @asynccontextmanager
    async def running(self, looks: int) -> AsyncIterator[None]:
        """It runs; leaving waits until it has looked so often."""
        self._left = looks
        self._enough.clear()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.pause.run())
            yield
            await self._enough.wait()
            running.cancel()


def test_an_agent_outside_its_hours_rests_until_the_next() -> None:
    """Clients are told when to come back, and the operator why (field note 79)."""
    bench = Bench(NIGHT, "21:30")
    bench.pause.look()

    assert bench.pause.rest is not None
    assert bench.pause.rest.why == "outside active hours, until 22:00 (UTC)"
    assert bench.pause.refusal() == Refusal(
        ErrorCode.OUT_OF_CAPACITY, "this agent rests until 22:00 (UTC)", retry_after_ms=30 * 60_000
    )


def test_nobody_is_told_to_stay_away_for_more_than_an_hour() -> None:
    """The operator may change the hours."""
    bench = Bench(NIGHT, "08:00")
    bench.pause.look()
    refusal = bench.pause.refusal()

    assert refusal is not None
    assert refusal.retry_after_ms == 3_600_000


def test_an_agent_within_its_hours_or_without_any_serves() -> None:
    """No pause, no refusal, no news."""
    for bench in (Bench(NIGHT, "23:00"), Bench(ScheduleSection(), "12:00")):
        bench.pause.look()
        assert bench.pause.rest is None
        assert bench.pause.refusal() is None
        assert bench.changes == []


async def test_it_looks_at_the_edges_and_says_so_once_each_way() -> None:
    """At 22:00 and at 07:00, not half a minute later."""
    log = LogLines()
    bench = Bench(NIGHT, "21:58")
    await bench.runs(9 * 60 * 2 + 20)

    assert bench.changes[1:] == [
        (at("22:00"), None),
        (at("07:00") + 86_400, "outside active hours, until 22:00 (UTC)"),
    ]
    assert bench.changes[0] == (at("21:58"), "outside active hours, until 22:00 (UTC)")
    assert [entry["reason"] for entry in log.named("paused")] == [
        "outside active hours, until 22:00 (UTC)"
    ] * 2
    assert len(log.named("pause_ended")) == 1


async def test_a_machine_that_slept_or_whose_clock_was_set_is_noticed_within_half_a_minute() -> None:
    """It never waits for longer, however far the edge is."""
    bench = Bench(NIGHT, "12:00")
    await bench.runs(2)
    bench.clock.now_s = at("23:00")
    await bench.runs(1)

    assert max(bench.waits) == 30
    assert bench.pause.rest is None


async def test_a_timer_that_fires_early_does_not_make_it_spin() -> None:
    """The edge is a few microseconds off."""
    bench = Bench(NIGHT, "22:00")
    bench.clock.now_s -= 1e-6
    await bench.runs(1)

    assert bench.waits == [0.01]


async def test_without_a_schedule_it_waits_for_one() -> None:
    """An agent that always serves wakes up for nothing."""
    bench = Bench(ScheduleSection(), "12:00")
    async with bench.running(1):
        await asyncio.sleep(0)
        assert bench.waits == []
        bench.pause.use(NIGHT)

    assert [why for _, why in bench.changes] == ["outside active hours, until 22:00 (UTC)"]


def test_new_hours_hold_at_once() -> None:
    """And the same ones again are no news."""
    bench = Bench(NIGHT, "12:00")
    for section in (NIGHT, ScheduleSection(), ScheduleSection(), NIGHT):
        bench.pause.use(section)
    bench.pause.look()

    assert [why for _, why in bench.changes] == ["outside active hours, until 22:00 (UTC)"]


async def test_an_agent_whose_gpu_others_use_rests_until_they_are_done() -> None:
    """What they do is nobody's business: clients hear only when to ask again."""
    bench = Bench(GPU, "12:00")
    bench.use.percent = 80
    await bench.runs(LOOKS_UNTIL_BUSY)
    refusal = bench.pause.refusal()

    assert bench.pause.rest is not None
    assert bench.pause.rest.why == "another program uses the GPU"
    assert refusal is not None
    assert (refusal.message, refusal.retry_after_ms) == ("this agent rests for a while", 58_000)

    bench.use.percent = 0
    await bench.runs(LOOKS_UNTIL_FREE)
    assert bench.pause.refusal() is None
    assert set(bench.waits) == {2.0}


async def test_the_gpu_is_left_alone_unless_the_operator_asks_for_the_pause() -> None:
    """And a pause for its sake ends with the setting."""
    bench = Bench(NIGHT, "23:00")
    bench.use.percent = 80
    await bench.runs(LOOKS_UNTIL_BUSY)
    assert bench.use.asked == []

    bench.pause.use(GPU)
    await bench.runs(LOOKS_UNTIL_BUSY)
    assert bench.pause.rest is not None
    bench.pause.use(NIGHT)
    assert bench.pause.rest is None


async def test_where_nobody_can_tell_who_uses_the_gpu_it_serves_and_looks_no_more() -> None:
    """Every half a minute for the hours, if there are any."""
    bench = Bench(GPU, "12:00", BlindGpuUse())
    await bench.runs(LOOKS_UNTIL_BUSY)

    assert bench.pause.rest is None
    assert set(bench.waits) == {30.0}


@pytest.mark.parametrize(
    "section", [NIGHT, ScheduleSection(active="22:00-07:00", timezone="UTC", pause_when_gpu_busy=True)]
)
async def test_the_hours_are_the_reason_that_is_told(section: ScheduleSection) -> None:
    """They last longer than a game."""
    bench = Bench(section, "12:00")
    bench.use.percent = 80
    await bench.runs(LOOKS_UNTIL_BUSY)

    assert bench.pause.rest is not None
    assert bench.pause.rest.why.startswith("outside active hours")
