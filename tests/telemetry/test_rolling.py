"""Numbers over the last minute, against a plain reckoning."""

import statistics
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.telemetry.rolling import MAX_SAMPLES, FailedJob, Outcomes, Summary, percentile

AT = datetime(2026, 1, 1, tzinfo=UTC)


def record(
    outcomes: Outcomes,
    now_s: float,
    *,
    code: str | None = None,
    latency_ms: float = 100.0,
    tokens_per_s: float | None = None,
) -> None:
    outcomes.record(
        now_s,
        code=code,
        model_id="m",
        latency_ms=latency_ms,
        tokens_per_s=tokens_per_s,
        at=AT + timedelta(seconds=now_s),
    )


def test_the_last_minute_is_summed_up() -> None:
    """True values, from true samples (field note 45)."""
    outcomes = Outcomes()
    for number in range(1, 21):
        code = "idle_timeout" if number == 20 else None
        record(outcomes, number, code=code, latency_ms=number * 10.0, tokens_per_s=float(number))

    assert outcomes.summary(21.0) == Summary(
        jobs_60s=20,
        error_rate_60s=0.05,
        p50_latency_ms=100.0,
        p95_latency_ms=190.0,
        tokens_per_s_p50=10.0,
        avg_latency_ms=105.0,
        recent_failures=(FailedJob("idle_timeout", "m", AT + timedelta(seconds=20)),),
    )


def test_without_samples_nothing_is_claimed() -> None:
    """Unknown is null, never zero (field note 45)."""
    assert Outcomes().summary(0.0) == Summary()
    assert Summary().error_rate_60s is None
    assert Summary().last_failure is None


def test_a_minute_later_rates_and_percentiles_are_unknown_again() -> None:
    """The average of the last jobs stays: it says over what it is."""
    outcomes = Outcomes()
    record(outcomes, 0.0, latency_ms=70.0)

    assert outcomes.summary(59.9).p50_latency_ms == 70.0
    after = outcomes.summary(60.0)
    assert (after.jobs_60s, after.p50_latency_ms, after.error_rate_60s) == (0, None, None)
    assert after.avg_latency_ms == 70.0


def test_failures_age_out() -> None:
    """After an hour of peace there is no last error (field note 45)."""
    outcomes = Outcomes()
    record(outcomes, 0.0, code="internal")
    record(outcomes, 1800.0, code="backend_error")

    assert [failure.code for failure in outcomes.summary(3599.0).recent_failures] == [
        "internal",
        "backend_error",
    ]
    assert [failure.code for failure in outcomes.summary(3600.0).recent_failures] == ["backend_error"]
    assert outcomes.summary(5400.0).last_failure is None


def test_the_last_ten_failures_are_kept_newest_last() -> None:
    """A burst pushes out the oldest."""
    outcomes = Outcomes()
    for number in range(15):
        record(outcomes, float(number), code=f"code_{number}")

    summary = outcomes.summary(15.0)
    assert [failure.code for failure in summary.recent_failures] == [
        f"code_{number}" for number in range(5, 15)
    ]
    assert summary.last_failure is not None
    assert summary.last_failure.code == "code_14"


def test_jobs_without_a_token_count_do_not_slow_the_speed() -> None:
    """Unknown usage is left out, not zero (field note 14)."""
    outcomes = Outcomes()
    record(outcomes, 0.0, tokens_per_s=None)
    record(outcomes, 1.0, tokens_per_s=40.0)

    assert outcomes.summary(2.0).tokens_per_s_p50 == 40.0


def test_a_flood_does_not_fill_memory() -> None:
    """The newest samples are kept."""
    outcomes = Outcomes()
    for _ in range(MAX_SAMPLES + 500):
        record(outcomes, 1.0)

    assert outcomes.summary(1.0).jobs_60s == MAX_SAMPLES


@dataclass(frozen=True)
class Ended:
    """One job of a made-up past."""

    after_s: float
    failed: bool
    latency_ms: float


_past = st.lists(
    st.builds(
        Ended,
        after_s=st.floats(0, 40, allow_nan=False),
        failed=st.booleans(),
        latency_ms=st.floats(0, 1e6, allow_nan=False),
    ),
    max_size=120,
)


@given(_past, st.floats(0, 90, allow_nan=False))
def test_any_past_is_summed_up_as_a_plain_reckoning_does(past: list[Ended], later_s: float) -> None:
    """The window is the last 60 s exactly, however jobs came and whenever somebody looked in between."""
    outcomes, now_s, ended = Outcomes(), 0.0, list[tuple[float, Ended]]()
    for job in past:
        now_s += job.after_s
        record(outcomes, now_s, code="internal" if job.failed else None, latency_ms=job.latency_ms)
        ended.append((now_s, job))
        outcomes.summary(now_s)
    now_s += later_s

    summary = outcomes.summary(now_s)

    recent = [job for ended_s, job in ended if ended_s > now_s - 60.0]
    latencies = sorted(job.latency_ms for job in recent)
    assert summary.jobs_60s == len(recent)
    if recent:
        assert summary.error_rate_60s == pytest.approx(sum(job.failed for job in recent) / len(recent))
        assert summary.p50_latency_ms == statistics.median_low(latencies)
        assert summary.p95_latency_ms in latencies
        assert summary.p95_latency_ms >= summary.p50_latency_ms
    else:
        assert (summary.error_rate_60s, summary.p50_latency_ms, summary.p95_latency_ms) == (None, None, None)
    assert len(summary.recent_failures) <= 10
    if ended:
        assert summary.avg_latency_ms == pytest.approx(statistics.fmean(job.latency_ms for job in past[-50:]))


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1), st.integers(1, 99))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: list[float], percent: int
) -> None:
    """The nearest-rank definition, word by word."""
    ordered = sorted(values)
    found = percentile(ordered, percent)

    assert found is not None
    assert found in ordered
    assert sum(value <= found for value in ordered) * 100 >= percent * len(ordered)
    assert sum(value < found for value in ordered) * 100 < percent * len(ordered)
