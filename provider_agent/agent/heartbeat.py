"""True numbers on a schedule; knows neither where they come from nor what carries them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC

from provider_agent import __version__
from provider_agent.protocol.frames import Heartbeat
from provider_agent.protocol.vitals import BackendStatus, Failure, HardwarePressure
from provider_agent.telemetry.rolling import FailedJob, Summary


@dataclass(frozen=True, slots=True)
class ExecutorView:
    """How busy the executor is at this moment."""

    active_jobs: int
    max_concurrent: int
    draining: bool
    paused: bool = False

    @property
    def free_slots(self) -> int:
        return 0 if self.draining or self.paused else max(self.max_concurrent - self.active_jobs, 0)


def build(
    summary: Summary,
    executor: ExecutorView,
    *,
    backends: tuple[BackendStatus, ...] = (),
    catalog_fingerprint: str | None = None,
    uptime_s: float = 0.0,
    hardware: HardwarePressure | None = None,
) -> Heartbeat:
    """The frame that says all this; without consent `hardware` is None, and the frame has no such field."""
    last = summary.last_failure
    return Heartbeat(
        queue_depth=executor.active_jobs,
        tokens_per_sec_p50=_rounded(summary.tokens_per_s_p50, 2),
        p50_latency_ms=_rounded(summary.p50_latency_ms, 1),
        p95_latency_ms=_rounded(summary.p95_latency_ms, 1),
        error_rate_60s=_rounded(summary.error_rate_60s, 4),
        last_error_at=None if last is None else _rfc3339(last),
        last_error_code=None if last is None else last.code,
        active_jobs=executor.active_jobs,
        max_concurrency=executor.max_concurrent,
        free_slots=executor.free_slots,
        draining=executor.draining,
        avg_latency_ms=_rounded(summary.avg_latency_ms, 1),
        recent_failures=tuple(
            Failure(code=failure.code, at=_rfc3339(failure), model_id=failure.model_id)
            for failure in summary.recent_failures
        ),
        backends=backends,
        catalog_fingerprint=catalog_fingerprint,
        uptime_s=round(uptime_s, 1),
        agent_version=__version__,
        **({} if hardware is None else {"hardware_pressure": hardware}),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _rfc3339(failure: FailedJob) -> str:
    return failure.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the schedule ------------------------------------------------------------------------

_SHORTEST_GAP = 0.1  # of an interval


async def beat(
    post: Callable[[Heartbeat], None],
    make: Callable[[], Heartbeat],
    interval_s: float,
    clock: Callable[[], float],
    *,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Post a heartbeat now and at every interval from now on, until cancelled.

    The beats stay on one grid: a late one does not move the next, and what was missed in a stall is
    not made up for.
    """
    started_s = clock()
    while True:
        post(make())
        await wait(following_s(clock() - started_s, interval_s))


def following_s(elapsed_s: float, interval_s: float) -> float:
    """How long it is to the next point of the grid, or the one after it when that is all but here.

    Timers may fire a little early, and a beat that was due just now must not be sent twice.
    """
    wait_s = (math.floor(elapsed_s / interval_s) + 1) * interval_s - elapsed_s
    return wait_s if wait_s >= interval_s * _SHORTEST_GAP else wait_s + interval_s
