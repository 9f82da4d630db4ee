"""A job while it runs, the frame that ends it, the memory of ended ones; decides and waits for nothing."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import msgspec

from provider_agent.agent.pump import Pump
from provider_agent.agent.routing import Route
from provider_agent.backends.base import BackendError, Reply, Usage
from provider_agent.protocol.errors import ErrorCode, Stage, rule_of
from provider_agent.protocol.frames import (
    LEGACY_PROTOCOL,
    MAX_MESSAGE_TEXT,
    PROTOCOL,
    Frame,
    Job,
    JobDone,
    JobError,
    Outcome,
    Timings,
    Tokens,
)
from provider_agent.transport.lane import Lane

REMEMBER_S = 600.0
"""How long the outcome of a job answers a repeated dispatch of it (I4)."""

REMEMBER_JOBS = 4096
"""How many outcomes are remembered at most, so that memory stays flat under any load."""

REMEMBER_IDS = 4096
"""How many ids of jobs that were never run are remembered at most."""

WHY_STOPPED = {
    ErrorCode.CANCELLED: "the job was cancelled",
    ErrorCode.BACKPRESSURE_TIMEOUT: "the coordinator took no bytes of this job for too long",
    ErrorCode.SESSION_LOST: "the session ended before the job did",
    ErrorCode.AGENT_SHUTDOWN: "the agent stopped before the job could finish",
}
"""One sentence for each reason to stop a job."""


class Outlet(Protocol):
    """The way out of this process as long as a session lasts; a `Channel` is one."""

    @property
    def protocol(self) -> int: ...
    def post(self, frame: Frame) -> None: ...
    def attach(self, lane: Lane) -> None: ...


class NoOutlet:
    """The way out while there is no session: lanes wait, and refusals are not said."""

    protocol = PROTOCOL

    def post(self, frame: Frame) -> None:
        """Nobody is there."""

    def attach(self, lane: Lane) -> None:
        """Nothing to attach it to."""


@dataclass(slots=True, eq=False)
class RunningJob:
    """One job that holds a slot; times are of the executor's clock.

    Attributes:
        lane: its way out, whichever session there is.
        route: where it runs now.
        stopping: why it is being stopped, once it is.
        is_wanted: whether anybody will be told of its end.
        is_acknowledged: whether the peer says what it has received of the job; protocol 2 does not.
        moved_from: the backends that failed it before, and how.
    """

    job: Job
    lane: Lane
    pump: Pump
    route: Route
    started_s: float
    task: asyncio.Task[Outcome] | None = None
    reply: Reply | None = None
    stopping: ErrorCode | None = None
    opened_s: float | None = None
    is_wanted: bool = True
    is_acknowledged: bool = True
    moved_from: tuple[tuple[str, ErrorCode], ...] = ()

    @property
    def usage(self) -> Usage:
        return self.reply.usage if self.reply is not None else Usage()

    def done(self, now_s: float) -> JobDone:
        """The outcome of a whole answer, all of which has left."""
        pump, started_s = self.pump, self.started_s
        first_s, opened_s, window = pump.first_byte_s, self.opened_s, self.lane.window
        made = window.next_seq
        return JobDone(
            job_id=self.job.job_id,
            tokens=_tokens(self.usage),
            duration_ms=_milliseconds(now_s - started_s),
            seq=made,
            chunks=made,
            bytes=window.sent_bytes,
            timings=Timings(
                first_byte_ms=None if first_s is None else _milliseconds(first_s - started_s),
                backend_ms=None if opened_s is None else _milliseconds(now_s - opened_s),
                stalled_ms=_milliseconds(pump.stalled_s) if pump.stalled_s else 0,
            ),
        )

    def failed(
        self, now_s: float, code: ErrorCode, message: str, error: BackendError | None = None
    ) -> JobError:
        """The outcome of an answer that is not whole; `error` adds what the engine said."""
        usage, window = self.usage, self.lane.window
        return JobError(
            job_id=self.job.job_id,
            error_code=code.value,
            message=message[:MAX_MESSAGE_TEXT],
            tokens_emitted=usage.output_tokens,
            bytes_sent=window.sent_bytes,
            seq=window.next_seq,
            stage=Stage.BEFORE_FIRST_BYTE if self.pump.first_byte_s is None else Stage.STREAMING,
            retryable=rule_of(code).retryable,
            retry_after_ms=error.retry_after_ms if error else None,
            http_status=error.http_status if error else None,
            tokens=_tokens(usage),
            duration_ms=_milliseconds(now_s - self.started_s),
        )


def refusal(job_id: str, code: ErrorCode, message: str, retry_after_ms: int | None = None) -> JobError:
    """The outcome of a job that was never run."""
    return JobError(
        job_id=job_id,
        error_code=code.value,
        message=message[:MAX_MESSAGE_TEXT],
        stage=None if code is ErrorCode.UNKNOWN_JOB else Stage.REFUSED,
        retryable=rule_of(code).retryable,
        retry_after_ms=retry_after_ms,
    )


def cancelled(unsent: Outcome) -> JobError:
    """What becomes of an outcome whose job is cancelled before the outcome has left."""
    tokens = unsent.tokens
    return JobError(
        job_id=unsent.job_id,
        error_code=ErrorCode.CANCELLED.value,
        message="the job was cancelled",
        tokens_emitted=tokens.output if tokens else None,
        bytes_sent=unsent.bytes if isinstance(unsent, JobDone) else unsent.bytes_sent,
        seq=unsent.seq,
        stage=Stage.STREAMING,
        retryable=rule_of(ErrorCode.CANCELLED).retryable,
        tokens=tokens,
        duration_ms=unsent.duration_ms,
    )


def lost(job_id: str) -> JobError:
    """The outcome of a job that the coordinator goes on with, and whose answer is not here any more."""
    return JobError(
        job_id=job_id,
        error_code=ErrorCode.SESSION_LOST.value,
        message="the agent does not have the rest of this answer any more",
        stage=Stage.STREAMING,
        retryable=rule_of(ErrorCode.SESSION_LOST).retryable,
    )


def is_told(outcome: Outcome, protocol: int) -> bool:
    """Whether the dialect has a word for this end; protocol 2 passes over some in silence."""
    return (
        protocol > LEGACY_PROTOCOL
        or isinstance(outcome, JobDone)
        or rule_of(outcome.error_code).legacy is not None
    )


class EndedJob(msgspec.Struct, frozen=True):
    """What telemetry learns of a job that is over. `code` is None when the answer was whole.

    Attributes:
        latency_s: its whole duration.
        first_byte_s: until the engine's first byte; None when none came.
        is_streamed: the answer came bit by bit; a document comes when it is whole.
        http_status: the engine's, where it failed with one.
        moved_from: the backends that failed it before, and how.
    """

    job_id: str
    model_id: str
    backend: str
    code: ErrorCode | None
    latency_s: float
    first_byte_s: float | None
    relayed_bytes: int
    usage: Usage
    is_streamed: bool
    http_status: int | None = None
    moved_from: tuple[tuple[str, ErrorCode], ...] = ()

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the engine wrote after its first byte; None when that or how much is not known."""
        if self.usage.output_tokens is None or self.first_byte_s is None or not self.is_streamed:
            return None
        writing_s = self.latency_s - self.first_byte_s
        return self.usage.output_tokens / writing_s if writing_s > 0 else None

    @classmethod
    def of(cls, running: RunningJob, outcome: Outcome, now_s: float) -> "EndedJob":
        job, reply, pump, started_s = running.job, running.reply, running.pump, running.started_s
        first_s = pump.first_byte_s
        return cls(
            job_id=job.job_id,
            model_id=job.model_id,
            backend=running.route.backend.name,
            code=ErrorCode(outcome.error_code) if isinstance(outcome, JobError) else None,
            latency_s=now_s - started_s,
            first_byte_s=None if first_s is None else first_s - started_s,
            relayed_bytes=pump.relayed_bytes,
            usage=running.usage,
            is_streamed=reply is not None and _is_stream(reply.content_type),
            http_status=outcome.http_status if isinstance(outcome, JobError) else None,
            moved_from=running.moved_from,
        )


class _Remembered(msgspec.Struct, frozen=True):
    ended_s: float
    attempt: int
    outcome: Outcome


class OutcomeMemory:
    """The outcomes of the last minutes, by job id, and the ids of jobs that never ran; oldest first."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, _Remembered] = OrderedDict()
        self._never_ran: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, job_id: str) -> bool:
        """Whether the coordinator was told how this job ended, or that it was refused."""
        return job_id in self._rows or job_id in self._never_ran

    def note(self, job_id: str) -> None:
        """The coordinator was told that this job does not run here."""
        self._never_ran[job_id] = None
        if len(self._never_ran) > REMEMBER_IDS:
            self._never_ran.popitem(last=False)

    def keep(self, now_s: float, job: Job, outcome: Outcome) -> None:
        rows = self._rows
        rows[job.job_id] = _Remembered(now_s, job.attempt, outcome)
        rows.move_to_end(job.job_id)
        while len(rows) > REMEMBER_JOBS or self._oldest().ended_s < now_s - REMEMBER_S:
            rows.popitem(last=False)

    def revise(self, outcome: Outcome) -> None:
        """A job that was remembered has become something else before anybody was told."""
        row = self._rows.get(outcome.job_id)
        if row is not None:
            self._rows[outcome.job_id] = msgspec.structs.replace(row, outcome=outcome)

    def outcome(self, now_s: float, job: Job) -> Outcome | None:
        """The outcome of this attempt or a later one, if it is still remembered."""
        row = self._rows.get(job.job_id)
        if row is None or row.ended_s < now_s - REMEMBER_S or job.attempt > row.attempt:
            return None
        return row.outcome

    def _oldest(self) -> _Remembered:
        return next(iter(self._rows.values()))


@lru_cache(maxsize=64)  # engines have few
def _is_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() != "application/json"


def _tokens(usage: Usage) -> Tokens:
    return Tokens.of(usage.input_tokens, usage.output_tokens)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
