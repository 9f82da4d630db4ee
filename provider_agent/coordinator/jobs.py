"""One client's request on its way: its states, what may follow what, its attempts; decides nothing.

A job is QUEUED, with a provider (DISPATCHED, STARTED, STREAMING), or over (DONE,
FAILED, CANCELLED). An attempt that failed before the client took a byte leads back to QUEUED.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from msgspec import Raw

from provider_agent.coordinator.answer import Answer, Done, Failed
from provider_agent.coordinator.events import JobDispatched, JobEnded
from provider_agent.coordinator.fleet import Provider
from provider_agent.protocol import frames
from provider_agent.protocol.frames import LEGACY_PROTOCOL, Format
from provider_agent.protocol.window import WINDOW_BYTES, ReceiveWindow

LEGACY_DEADLINE_MS = 10 * 60 * 1000
"""Sent to protocol-2 agents, who would take 60 s if nothing was said: too short for a long answer."""

MESSAGES = "/v1/messages"
"""The one endpoint that is told in a second way, which is older: by the job's format."""

UNLIMITED = 2**63
"""The window of protocol 2, which has none."""


class JobState(Enum):
    """How far a job has come; the value reads after "while"."""

    QUEUED = "queued"
    """No provider has it."""
    DISPATCHED = "dispatched"
    """A provider was asked, and has not answered."""
    STARTED = "started"
    """The engine's response headers are here."""
    STREAMING = "streaming"
    """Bytes of the answer are here."""
    DONE = "done"
    """The answer is whole."""
    FAILED = "failed"
    """The answer will not be whole, and the client is told why."""
    CANCELLED = "cancelled"
    """The client left."""


_S = JobState
_OVER = frozenset({_S.DONE, _S.FAILED, _S.CANCELLED})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.DISPATCHED, _S.FAILED, _S.CANCELLED}),
    # Protocol 2 has no job_started, and an empty body has no chunk: each step may be skipped.
    _S.DISPATCHED: frozenset({_S.QUEUED, _S.STARTED, _S.STREAMING}) | _OVER,
    # Twice STARTED: the agent went on to another of its backends.
    _S.STARTED: frozenset({_S.QUEUED, _S.STARTED, _S.STREAMING}) | _OVER,
    # Back to QUEUED only while the client has taken no byte, which `Answer.taken` knows.
    _S.STREAMING: frozenset({_S.QUEUED}) | _OVER,
    _S.DONE: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class IllegalStep(Exception):
    """A defect of ours: a job was to take a step that `TRANSITIONS` does not have."""

    def __init__(self, job_id: str, state: JobState, step: JobState) -> None:
        super().__init__(job_id, state, step)
        self.job_id = job_id
        self.state = state
        self.step = step

    def __str__(self) -> str:
        return f"job {self.job_id} may not become {self.step.value} while {self.state.value}"


def make_job_id() -> str:
    """A name that nobody else has, and that says nothing."""
    return f"job-{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a client wants; `body` is sent to the engine as it is."""

    model_id: str
    endpoint: str
    body: bytes
    stream: bool
    client: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """One request from its arrival to its end.

    Attributes:
        arrival: number of its arrival; who came first is served first.
        attempt: number of dispatches so far.
        failures: how many of them failed for another reason than want of capacity.
        excluded: by id, the providers that it is not to be given again, and how they failed it.
        provider: who has it now.
        stream_id: what binary chunks of this attempt are marked with.
        window_bytes: how much of this attempt may be on its way and not acknowledged.
        inflow: what came of the answer in this attempt, and what of it was acknowledged.
        waits_until_s: when it gives up waiting for a slot.
        last_failure: why it is not with a provider any more.
    """

    job_id: str
    request: JobRequest
    answer: Answer
    arrival: int
    arrived_s: float
    waits_until_s: float
    state: JobState = JobState.QUEUED
    attempt: int = 0
    failures: int = 0
    excluded: dict[str, Failed] = field(default_factory=dict)
    provider: Provider | None = None
    stream_id: int = 0
    window_bytes: int = WINDOW_BYTES
    inflow: ReceiveWindow = field(default_factory=ReceiveWindow)
    last_failure: Failed | None = None
    first_byte_s: float | None = None

    def __repr__(self) -> str:
        at = f" at {self.provider.name}" if self.provider is not None else ""
        return f"<Job {self.job_id} {self.state.value}{at}, attempt {self.attempt}>"

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    def may(self, step: JobState) -> bool:
        return step in TRANSITIONS[self.state]

    def step(self, step: JobState) -> None:
        """Take a step; raises IllegalStep when the table does not have it."""
        if not self.may(step):
            raise IllegalStep(self.job_id, self.state, step)
        self.state = step

    def give(self, provider: Provider, stream_id: int, window_bytes: int = WINDOW_BYTES) -> None:
        """Begin the next attempt, at this provider."""
        self.step(JobState.DISPATCHED)
        self.provider = provider
        self.attempt += 1
        self.stream_id = stream_id
        self.window_bytes = UNLIMITED if provider.protocol <= LEGACY_PROTOCOL else window_bytes
        self.inflow = ReceiveWindow(self.window_bytes)
        self.answer.agent = provider.name

    def take_back(self, failure: Failed) -> None:
        """End this attempt and wait for another; nothing of it has reached the client."""
        self.step(JobState.QUEUED)
        self.provider = None
        self.first_byte_s = None
        self.last_failure = failure
        self.answer.reset()

    # --- as others see it -----------------------------------------------------------------

    def frame(self) -> frames.Job:
        """This attempt as it is sent to its provider."""
        legacy = self.provider is not None and self.provider.protocol <= LEGACY_PROTOCOL
        return frames.Job(
            job_id=self.job_id,
            model_id=self.request.model_id,
            request=Raw(self.request.body),
            endpoint=self.request.endpoint,
            format=Format.ANTHROPIC if self.request.endpoint == MESSAGES else Format.OPENAI,
            stream=self.request.stream,
            attempt=self.attempt,
            deadline_ms=LEGACY_DEADLINE_MS if legacy else None,
            stream_id=None if legacy else self.stream_id,
            window_bytes=None if legacy else self.window_bytes,
        )

    def dispatched(self, now_s: float) -> JobDispatched:
        return JobDispatched(
            job_id=self.job_id,
            model_id=self.request.model_id,
            agent=self.answer.agent,
            attempt=self.attempt,
            waited_s=now_s - self.arrived_s,
        )

    def ended(self, end: Done | Failed, now_s: float) -> JobEnded:
        return JobEnded(
            job_id=self.job_id,
            model_id=self.request.model_id,
            endpoint=self.request.endpoint,
            client=self.request.client,
            agent=self.answer.agent,
            code=end.code if isinstance(end, Failed) else None,
            status=self.answer.status_for(end),
            attempts=self.attempt,
            first_byte_s=None if self.first_byte_s is None else self.first_byte_s - self.arrived_s,
            duration_s=now_s - self.arrived_s,
            answer_bytes=self.answer.total_bytes,
        )
