"""A job's outcome says what is known of it, and is remembered for a while."""

import msgspec
import pytest

from provider_agent.agent.outcomes import (
    REMEMBER_IDS,
    REMEMBER_JOBS,
    REMEMBER_S,
    EndedJob,
    OutcomeMemory,
    RunningJob,
    cancelled,
    is_told,
    refusal,
)
from provider_agent.agent.pump import Pump
from provider_agent.agent.routing import Route
from provider_agent.backends.base import RateLimited, Usage
from provider_agent.protocol.errors import ErrorCode, Stage
from provider_agent.protocol.frames import MAX_MESSAGE_TEXT, Job, JobDone, Tokens
from provider_agent.transport.lane import Lane
from tests.fakes.backends import ScriptedBackend, ScriptedReply


def job(job_id: str = "j", attempt: int = 1) -> Job:
    return Job(job_id=job_id, model_id="m", request=msgspec.Raw(b"{}"), attempt=attempt)


def running(usage: Usage | None = None) -> RunningJob:
    backend = ScriptedBackend()
    route = Route(backend, backend.models[0])
    lane = Lane("j")
    pump = Pump(lane, clock=lambda: 100.1, patience_s=30.0)
    row = RunningJob(job(), lane, pump, route, started_s=100.0)
    if usage is not None:
        row.reply = ScriptedReply([], usage)
        row.reply.usage = usage
    return row


def done(job_id: str = "j") -> JobDone:
    return JobDone(job_id=job_id, tokens=Tokens(), duration_ms=1)


def test_a_whole_answer_is_reported_with_its_tokens_and_times() -> None:
    """The ordinary case."""
    row = running(Usage(3, 5))
    row.opened_s, row.pump.first_byte_s, row.pump.stalled_s = 100.5, 101.0, 0.25
    outcome = row.done(102.0)

    assert outcome.tokens == Tokens(input=3, output=5, input_tokens=3, output_tokens=5)
    assert outcome.duration_ms == 2000
    assert outcome.timings is not None
    assert (outcome.timings.first_byte_ms, outcome.timings.backend_ms, outcome.timings.stalled_ms) == (
        1000,
        1500,
        250,
    )


def test_usage_that_the_engine_did_not_report_is_null_not_zero() -> None:
    """Unknown is not none at all (field note 14)."""
    assert running().done(101.0).tokens == Tokens()


def test_a_failure_keeps_the_usage_that_was_known() -> None:
    """Usage is not dropped on an error; tokens_emitted counts tokens, never bytes (field notes 13, 14)."""
    row = running(Usage(3, 5))
    row.pump.take(b"x")
    outcome = row.failed(101.0, ErrorCode.STREAM_TRUNCATED, "cut")

    assert (outcome.tokens_emitted, outcome.tokens) == (5, Tokens.of(3, 5))
    assert outcome.stage is Stage.STREAMING


def test_a_failure_before_the_first_byte_says_so_and_hands_on_the_engines_wish() -> None:
    """What a coordinator needs to try elsewhere."""
    error = RateLimited("the engine is busy", http_status=429, retry_after_ms=1500)
    outcome = running().failed(101.0, error.code, error.message, error)

    assert outcome.stage is Stage.BEFORE_FIRST_BYTE
    assert (outcome.retryable, outcome.http_status, outcome.retry_after_ms) == (True, 429, 1500)


def ended_with(content_type: str) -> EndedJob:
    row = running(Usage(3, 5))
    assert row.reply is not None
    row.reply.content_type = content_type  # type: ignore[misc]
    row.pump.first_byte_s = 101.0
    return EndedJob.of(row, done(), 101.5)


def test_speed_is_what_a_stream_shows_and_a_document_does_not() -> None:
    """A document comes when its last token is written: its rate would be a million (field note 45)."""
    assert ended_with("text/event-stream").tokens_per_s == 10.0
    assert ended_with("application/x-ndjson").tokens_per_s == 10.0
    assert ended_with("Application/JSON; charset=utf-8").tokens_per_s is None


def test_a_message_is_never_longer_than_the_wire_allows() -> None:
    """2 KiB are enough for one sentence."""
    assert len(refusal("j", ErrorCode.INTERNAL, "x" * 10_000).message) == MAX_MESSAGE_TEXT


def test_a_refusal_is_an_outcome_without_a_run() -> None:
    """Its stage says that nothing was started; an unknown job has no stage at all."""
    assert refusal("j", ErrorCode.OUT_OF_CAPACITY, "full").stage is Stage.REFUSED
    assert refusal("j", ErrorCode.UNKNOWN_JOB, "unknown").stage is None


def test_an_outcome_counts_what_left() -> None:
    """The coordinator knows what it lacks, whether the answer is whole or not (field note 15)."""
    row = running(Usage(3, 5))
    for data in (b"Hel", b"lo"):
        row.pump.take(data)
        row.lane.window.take(100)
    whole, failed = row.done(101.0), row.failed(101.0, ErrorCode.CANCELLED, "x")

    assert (whole.seq, whole.chunks, whole.bytes) == (2, 2, 5)
    assert (failed.seq, failed.bytes_sent) == (2, 5)


def test_an_unsent_outcome_that_is_cancelled_keeps_its_tokens() -> None:
    """The work was done and is told; the answer is not whole any more."""
    unsent = JobDone(job_id="j", tokens=Tokens.of(3, 5), duration_ms=7, seq=2, chunks=2, bytes=9)
    outcome = cancelled(unsent)

    assert (outcome.error_code, outcome.tokens_emitted, outcome.duration_ms) == ("cancelled", 5, 7)
    assert (outcome.seq, outcome.bytes_sent) == (2, 9)
    assert cancelled(outcome) == outcome


def test_telemetry_learns_the_code_only_of_what_failed() -> None:
    """A whole answer has no code."""
    row = running(Usage(3, 5))

    assert EndedJob.of(row, row.done(101.0), 101.0).code is None
    failed = row.failed(101.0, ErrorCode.CANCELLED, "x")
    assert EndedJob.of(row, failed, 101.0).code is ErrorCode.CANCELLED


def test_the_outcome_of_an_attempt_answers_a_repetition_of_it() -> None:
    """I4: within ten minutes the known outcome is the answer; a higher attempt is a new job."""
    memory = OutcomeMemory()
    memory.keep(0.0, job(attempt=2), done())

    assert memory.outcome(1.0, job(attempt=2)) == done()
    assert memory.outcome(1.0, job(attempt=1)) == done()
    assert memory.outcome(1.0, job(attempt=3)) is None
    assert memory.outcome(REMEMBER_S + 1, job(attempt=2)) is None


def test_memory_stays_bounded_in_time_and_number() -> None:
    """Finished jobs do not pile up (field note 47)."""
    memory = OutcomeMemory()
    for number in range(REMEMBER_JOBS + 10):
        memory.keep(0.0, job(f"j{number}"), done(f"j{number}"))
    assert len(memory) == REMEMBER_JOBS

    memory.keep(REMEMBER_S + 1, job("late"), done("late"))
    assert len(memory) == 1


def test_what_was_refused_is_known_and_has_no_outcome_to_repeat() -> None:
    """Its acknowledgement is no news; the job may come again, and is judged anew."""
    memory = OutcomeMemory()
    memory.note("refused")
    memory.keep(0.0, job("ran"), done("ran"))

    assert "refused" in memory
    assert "ran" in memory
    assert "ghost" not in memory
    assert memory.outcome(1.0, job("refused")) is None


def test_the_memory_of_refusals_is_bounded_too() -> None:
    """Whoever is refused ten thousand times fills nothing (field note 47)."""
    memory = OutcomeMemory()
    for number in range(REMEMBER_IDS + 10):
        memory.note(f"j{number}")

    assert "j9" not in memory
    assert "j10" in memory


@pytest.mark.parametrize(
    ("code", "is_told_in_2"),
    [
        (ErrorCode.CANCELLED, False),
        (ErrorCode.UNKNOWN_JOB, False),
        (ErrorCode.SESSION_LOST, True),
        (ErrorCode.INTERNAL, True),
    ],
)
def test_protocol_2_is_silent_about_some_ends(code: ErrorCode, is_told_in_2: bool) -> None:
    """Such an outcome is no answer there; protocol 3 has a word for each (I6)."""
    outcome = refusal("j", code, "x")

    assert is_told(outcome, 2) is is_told_in_2
    assert is_told(outcome, 3)
    assert is_told(done(), 2)


def test_a_job_that_ended_twice_is_remembered_by_its_last_attempt() -> None:
    """Attempts of one job follow each other."""
    memory = OutcomeMemory()
    memory.keep(0.0, job(attempt=1), done())
    second = replace_duration(done(), 9)
    memory.keep(1.0, job(attempt=2), second)

    assert memory.outcome(2.0, job(attempt=2)) == second


def replace_duration(outcome: JobDone, duration_ms: int) -> JobDone:
    return msgspec.structs.replace(outcome, duration_ms=duration_ms)
