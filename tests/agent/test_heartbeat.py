"""What a heartbeat says, and when it is sent."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent import __version__
from provider_agent.agent.heartbeat import ExecutorView, beat, build, following_s
from provider_agent.protocol.codec import encode
from provider_agent.protocol.frames import Heartbeat
from provider_agent.protocol.vitals import (
    BackendStatus,
    CpuPressure,
    Failure,
    GpuPressure,
    HardwarePressure,
    RamPressure,
    VramPressure,
)
from provider_agent.telemetry.rolling import FailedJob, Summary

IDLE = ExecutorView(active_jobs=0, max_concurrent=8, draining=False)
HARDWARE = HardwarePressure(
    cpu=CpuPressure(core_count=2, load_1m_ratio=0.5),
    ram=RamPressure(used_ratio=0.5, total_bucket="<=8GiB"),
    gpu=GpuPressure(available=False, count=0, vram=VramPressure(total_tier="none")),
)


def test_a_heartbeat_says_what_was_measured() -> None:
    """Every number comes from the summary or the executor (field note 45)."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=2)))
    summary = Summary(
        jobs_60s=20,
        error_rate_60s=1 / 3,
        p50_latency_ms=100.04,
        p95_latency_ms=190.06,
        tokens_per_s_p50=33.333,
        avg_latency_ms=105.0,
        recent_failures=(FailedJob("idle_timeout", "m", at),),
    )
    backend = BackendStatus(name="gpu", kind="vllm", healthy=True, active_jobs=3, max_concurrent=4)

    frame = build(
        summary,
        ExecutorView(active_jobs=3, max_concurrent=8, draining=False),
        backends=(backend,),
        catalog_fingerprint="sha256:1",
        uptime_s=12.34,
    )

    assert frame == Heartbeat(
        queue_depth=3,
        tokens_per_sec_p50=33.33,
        p50_latency_ms=100.0,
        p95_latency_ms=190.1,
        error_rate_60s=0.3333,
        last_error_at="2026-01-02T01:04:05.678Z",
        last_error_code="idle_timeout",
        active_jobs=3,
        max_concurrency=8,
        free_slots=5,
        draining=False,
        avg_latency_ms=105.0,
        recent_failures=(Failure(code="idle_timeout", at="2026-01-02T01:04:05.678Z", model_id="m"),),
        backends=(backend,),
        catalog_fingerprint="sha256:1",
        uptime_s=12.3,
        agent_version=__version__,
    )


def test_what_has_no_sample_is_null_on_the_wire() -> None:
    """Zero would be a claim (field note 45)."""
    text = encode(build(Summary(), IDLE))

    assert text is not None
    for name in (
        b"tokens_per_sec_p50",
        b"p50_latency_ms",
        b"p95_latency_ms",
        b"error_rate_60s",
        b"last_error_at",
    ):
        assert b'"%s":null' % name in text


def test_hardware_is_told_only_with_consent() -> None:
    """Without it the field is not even there (field note 45)."""
    without, with_consent = encode(build(Summary(), IDLE)), encode(build(Summary(), IDLE, hardware=HARDWARE))

    assert without is not None
    assert with_consent is not None
    assert b"hardware_pressure" not in without
    assert b'"total_bucket":"<=8GiB"' in with_consent


@pytest.mark.parametrize(
    ("view", "free"),
    [
        (ExecutorView(active_jobs=0, max_concurrent=8, draining=False), 8),
        (ExecutorView(active_jobs=8, max_concurrent=8, draining=False), 0),
        (ExecutorView(active_jobs=9, max_concurrent=8, draining=False), 0),
        (ExecutorView(active_jobs=1, max_concurrent=8, draining=True), 0),
        (ExecutorView(active_jobs=1, max_concurrent=8, draining=False, paused=True), 0),
    ],
)
def test_a_draining_agent_has_no_free_slots(view: ExecutorView, free: int) -> None:
    """Nor does one whose limit was lowered below what runs."""
    assert build(Summary(), view).free_slots == free


# --- the schedule ------------------------------------------------------------------------


class Schedule:
    """Time that passes only in waits, which may be made late.

    Attributes:
        beats_s: when heartbeats were posted.
        late_s: by how much each wait overshoots, in turn; the schedule ends with them.
    """

    def __init__(self, *late_s: float, interval_s: float = 15.0) -> None:
        self.now_s = 500.0
        self.beats_s: list[float] = []
        self._late_s = list(late_s)
        self._interval_s = interval_s

    async def wait(self, wait_s: float) -> None:
        assert wait_s > 0
        if not self._late_s:
            raise StopAsyncIteration
        self.now_s += wait_s + self._late_s.pop(0)

    async def run(self) -> list[float]:
        """Beats until the lateness is used up; gives their times from the start."""
        with pytest.raises(StopAsyncIteration):
            await beat(
                self._post,
                lambda: build(Summary(), IDLE),
                self._interval_s,
                self._clock,
                wait=self.wait,
            )
        return [round(beat_s - 500.0, 6) for beat_s in self.beats_s]

    def _post(self, _frame: Heartbeat) -> None:
        self.beats_s.append(self.now_s)

    def _clock(self) -> float:
        return self.now_s


async def test_the_first_beat_comes_at_once_and_then_one_per_interval() -> None:
    """The coordinator knows our load from the first moment."""
    assert await Schedule(0, 0, 0).run() == [0, 15, 30, 45]


async def test_late_beats_do_not_move_the_schedule() -> None:
    """A loop that is always 2 s late still beats every 15 s."""
    assert await Schedule(2, 2, 2, 2).run() == [0, 17, 32, 47, 62]


async def test_a_stall_is_not_followed_by_a_burst() -> None:
    """What was missed in 100 s is not made up for; the next beat is back on the grid."""
    assert await Schedule(0, 100, 0, 0).run() == [0, 15, 130, 135, 150]


async def test_a_beat_that_cannot_be_posted_ends_the_schedule() -> None:
    """The session's task group is told; nothing is swallowed."""

    def broken(_frame: Heartbeat) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await beat(broken, lambda: build(Summary(), IDLE), 15.0, lambda: 0.0)


async def test_a_timer_that_fires_early_makes_no_second_beat() -> None:
    """Event loops round; two beats in one microsecond would be a burst."""
    assert await Schedule(0, -0.000_001, 0).run() == [0, 15, 29.999999, 45]


@given(st.floats(0, 1e7, allow_nan=False), st.floats(0.1, 3600, allow_nan=False))
def test_the_next_beat_is_neither_at_once_nor_late(elapsed_s: float, interval_s: float) -> None:
    """For any time and interval; and it is on the grid."""
    wait_s = following_s(elapsed_s, interval_s)

    assert 0.09 * interval_s < wait_s < 1.11 * interval_s
    points = (elapsed_s + wait_s) / interval_s
    assert points == pytest.approx(round(points), abs=1e-3)
