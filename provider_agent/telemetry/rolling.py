"""Outcomes of the last minute as rates and percentiles; knows no clock, and claims nothing without samples.

Latency and errors over `WINDOW_S`; the average over the last `AVERAGE_JOBS` jobs whatever their age; the
last `MAX_FAILURES` failures until they are `FAILURE_AGE_S` old.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

WINDOW_S = 60.0
AVERAGE_JOBS = 50
MAX_FAILURES = 10
FAILURE_AGE_S = 3600.0

MAX_SAMPLES = 10_000
"""Samples that are kept at most: a flood of short jobs must not fill memory."""


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that failed; `at` is the wall clock's time, with its zone."""

    code: str
    model_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """What can be said at one moment; None where there was no sample.

    Attributes:
        jobs_60s: how many jobs ended in the last 60 s.
        error_rate_60s: the share of these that failed.
        p50_latency_ms, p95_latency_ms: of these, from the job's frame to its outcome.
        tokens_per_s_p50: of those among them that an engine counted tokens for.
        avg_latency_ms: over the last 50 jobs.
        recent_failures: newest last; `last_failure` is the newest of them.
    """

    jobs_60s: int = 0
    error_rate_60s: float | None = None
    p50_latency_ms: float | None = None
    p95_latency_ms: float | None = None
    tokens_per_s_p50: float | None = None
    avg_latency_ms: float | None = None
    recent_failures: tuple[FailedJob, ...] = ()

    @property
    def last_failure(self) -> FailedJob | None:
        return self.recent_failures[-1] if self.recent_failures else None


class _Sample(NamedTuple):
    ended_s: float
    failed: bool
    latency_ms: float
    tokens_per_s: float | None


class Outcomes:
    """The recent past of one agent; `now_s` must not go backwards."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)
        self._latencies_ms: deque[float] = deque(maxlen=AVERAGE_JOBS)
        self._failures: deque[tuple[float, FailedJob]] = deque(maxlen=MAX_FAILURES)

    def record(
        self,
        now_s: float,
        *,
        code: str | None,
        model_id: str,
        latency_ms: float,
        tokens_per_s: float | None,
        at: datetime,
    ) -> None:
        """One job has its outcome; `code` None is done."""
        self._forget(now_s)
        self._samples.append(_Sample(now_s, code is not None, latency_ms, tokens_per_s))
        self._latencies_ms.append(latency_ms)
        if code is not None:
            self._failures.append((now_s, FailedJob(code, model_id, at)))

    def summary(self, now_s: float) -> Summary:
        self._forget(now_s)
        samples = self._samples
        latencies_ms = sorted(sample.latency_ms for sample in samples)
        speeds = sorted(sample.tokens_per_s for sample in samples if sample.tokens_per_s is not None)
        return Summary(
            jobs_60s=len(samples),
            error_rate_60s=_mean([float(sample.failed) for sample in samples]),
            p50_latency_ms=percentile(latencies_ms, 50),
            p95_latency_ms=percentile(latencies_ms, 95),
            tokens_per_s_p50=percentile(speeds, 50),
            avg_latency_ms=_mean(self._latencies_ms),
            recent_failures=tuple(failure for _, failure in self._failures),
        )

    def _forget(self, now_s: float) -> None:
        while self._samples and self._samples[0].ended_s <= now_s - WINDOW_S:
            self._samples.popleft()
        while self._failures and self._failures[0][0] <= now_s - FAILURE_AGE_S:
            self._failures.popleft()


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile of values in order: always one of them; None when there are none."""
    if not ordered:
        return None
    rank = -(-percent * len(ordered) // 100)  # rounded up, in integers: 95 % of 20 is the 19th
    return ordered[max(rank, 1) - 1]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
