"""What an agent's error means to the client and to the next attempt."""

import pytest

from provider_agent.coordinator.failures import (
    RETRY_AFTER_S,
    Blame,
    blame_of,
    failed,
    failure_of,
    was_tried,
)
from provider_agent.protocol.errors import RULES, ErrorCode
from provider_agent.protocol.frames import JobError


def error(code: str, **fields: int | bool | None) -> JobError:
    return JobError(job_id="j", error_code=code, message="why", **fields)  # type: ignore[arg-type]


def test_an_error_takes_status_and_retry_from_the_table() -> None:
    """One table for both programs."""
    failure = failure_of(error("backend_unreachable"))

    assert (
        failure.code,
        failure.message,
        failure.retryable,
        failure.http_status,
        failure.retry_after_s,
    ) == ("backend_unreachable", "why", True, 502, None)


@pytest.mark.parametrize("retryable", [True, False])
def test_what_the_agent_says_of_a_retry_goes_before_the_table(retryable: bool) -> None:
    """It knows more."""
    assert retryable is failure_of(error("internal", retryable=retryable)).retryable


def test_a_code_of_a_newer_agent_counts_as_internal() -> None:
    """And keeps its name (field note 61)."""
    failure = failure_of(error("quantum_decoherence"))

    assert (failure.code, failure.http_status, failure.retryable) == ("quantum_decoherence", 502, True)


@pytest.mark.parametrize(("status", "shown"), [(422, 422), (404, 404), (500, 400), (None, 400), (200, 400)])
def test_the_engines_own_4xx_is_kept_for_a_bad_request(status: int | None, shown: int) -> None:
    """The client shall see what it would see at the engine (field note 30)."""
    assert shown == failure_of(error("bad_request", http_status=status)).http_status


def test_the_engines_status_is_not_kept_for_anything_else() -> None:
    """A 401 of the engine is not about the client's key."""
    assert failure_of(error("auth_rejected_by_backend", http_status=401)).http_status == 502


def test_the_time_that_the_agent_names_is_passed_on() -> None:
    """In seconds; without one, 429 and 503 carry a guess."""
    assert failure_of(error("rate_limited", retry_after_ms=1500)).retry_after_s == 1.5
    assert failure_of(error("rate_limited")).retry_after_s == RETRY_AFTER_S
    assert failed(ErrorCode.DRAINING, "").retry_after_s == RETRY_AFTER_S


@pytest.mark.parametrize("code", ["cancelled", "unknown_job"])
def test_an_answer_to_a_cancel_that_nobody_sent_is_the_agents_defect(code: str) -> None:
    """No client is told that it left when it did not (field note 22)."""
    failure = failure_of(error(code, retryable=False))

    assert (failure.code, failure.retryable, failure.http_status) == ("internal", True, 502)


def test_a_duplicate_is_of_our_own_making_and_tried_again() -> None:
    """The earlier attempt has not quite ended at that agent."""
    failure = failure_of(error("duplicate_job", retryable=False))

    assert failure.retryable
    assert Blame.NO_ROOM is blame_of(failure.code)


def test_a_long_message_is_cut() -> None:
    """An agent's words are bounded wherever they come out."""
    assert len(failure_of(JobError(job_id="j", error_code="internal", message="x" * 9999)).message) == 2048


@pytest.mark.parametrize(
    ("code", "blame"),
    [
        ("out_of_capacity", Blame.NO_ROOM),
        ("draining", Blame.LEAVING),
        ("agent_shutdown", Blame.LEAVING),
        ("session_lost", Blame.GONE),
        ("backend_error", Blame.AT_FAULT),
        ("never heard of", Blame.AT_FAULT),
    ],
)
def test_blame_says_what_becomes_of_the_provider(code: str, blame: Blame) -> None:
    """Capacity excludes nobody, a defect does."""
    assert blame is blame_of(code)


def test_only_refusals_of_the_moment_are_no_attempts() -> None:
    """Everything else counts towards the limit."""
    assert {"out_of_capacity", "duplicate_job", "draining"} == {
        code.value for code in RULES if not was_tried(code.value)
    }
