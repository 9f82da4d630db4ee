"""Sole owner of the fleet and of live jobs: events in, frames and answers out. Knows no HTTP and no socket.

1. Nothing here waits, but for `watch` and `drain`: each event is one step, so steps cannot race.
2. A slot is taken at dispatch and freed by the agent's outcome, the end of its session, or
   `cancel_grace_s` after a cancel that was not answered. A job that is over may still hold one.
3. After each step no job waits that could be dispatched. So jobs of one model are served in the
   order of their arrival, and those of another model are not held up by them.
4. A chunk counts only from the provider that has the job now; all else is late, and ignored.
"""

import asyncio
import contextlib
import itertools
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provider_agent.coordinator import events
from provider_agent.coordinator.answer import DONE, Answer, Done, Failed
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.failures import (
    CLIENT_LEFT,
    CLIENT_TOO_SLOW,
    QUEUE_FULL,
    SESSION_LOST,
    STOPPING,
    TORN,
    UNREADABLE,
    WAITED_TOO_LONG,
    Blame,
    blame_of,
    failed,
    failure_of,
    was_tried,
)
from provider_agent.coordinator.fleet import Fleet, Provider, Slot
from provider_agent.coordinator.jobs import Job, JobRequest, JobState, make_job_id
from provider_agent.coordinator.scheduler import Refusal, choose
from provider_agent.protocol import frames
from provider_agent.protocol.errors import BadFrame, ErrorCode
from provider_agent.protocol.frames import Frame, JobCancel, Outcome
from provider_agent.telemetry.logs import get_logger
from provider_agent.telemetry.metrics import CoordinatorView

REPLACED = 4002
"""Close code for the older of two connections of one identity."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """What the coordinator bears; seconds, jobs and bytes.

    Attributes:
        max_attempts: agents that may fail one job before its client is told.
        answer_bytes: how much of one answer may wait for its client.
        cancel_grace_s: how long a cancelled job counts as running while its agent says nothing.
    """

    queue_max_wait_s: float = 30.0
    queue_max_jobs: int = 1000
    max_attempts: int = 3
    answer_bytes: int = 8 * 1024 * 1024
    cancel_grace_s: float = 10.0


class Dispatcher:
    """Brings jobs to agents, and what agents say to the clients that wait for it.

    Attributes:
        fleet: all agents that are present; others only read it.
        draining: no new jobs are taken.
        late_frames: frames that came for a job that their agent does not have (any more).
    """

    def __init__(
        self,
        limits: DispatchLimits,
        *,
        clock: Callable[[], float],
        on_event: Callable[[Event], None] = lambda _: None,
        new_job_id: Callable[[], str] = make_job_id,
    ) -> None:
        self.limits = limits
        self.fleet = Fleet()
        self.draining = False
        self.late_frames = 0
        self._clock = clock
        self._on_event = on_event
        self._new_job_id = new_job_id
        self._numbers = itertools.count(1)  # of arrivals and of dispatches
        self._jobs: dict[str, Job] = {}  # those that are not over
        self._waiting: list[Job] = []  # those of them that are QUEUED, in the order of arrival
        self._alarm = asyncio.Event()  # a deadline was added
        self._idle = asyncio.Event()  # `_jobs` is empty
        self._idle.set()

    def view(self) -> CoordinatorView:
        """How things stand, in numbers."""
        providers = self.fleet.providers
        return CoordinatorView(
            agents=len(providers),
            models=len(self.fleet.models),
            free_slots=sum(provider.free_slots for provider in providers),
            running_jobs=sum(len(provider.jobs) for provider in providers),
            waiting_jobs=len(self._waiting),
        )

    # --- from the clients' doors ----------------------------------------------------------

    @contextlib.contextmanager
    def run(self, request: JobRequest) -> Iterator[Answer]:
        """Have a request served for as long as the block lasts; leaving it before the end is a cancel."""
        job = self._admit(request)
        try:
            yield job.answer
        finally:
            self._abandon(job)

    def _admit(self, request: JobRequest) -> Job:
        now_s, job_id = self._clock(), self._new_job_id()
        job = self._jobs[job_id] = Job(
            job_id,
            request,
            Answer(job_id, self.limits.answer_bytes),
            arrival=next(self._numbers),
            arrived_s=now_s,
            waits_until_s=now_s + self.limits.queue_max_wait_s,
        )
        self._idle.clear()
        if self.draining:
            self._end(job, JobState.FAILED, STOPPING)
        else:
            self._place(job)
        return job

    def _abandon(self, job: Job) -> None:
        if job.is_over or job.answer.has_end_mark:  # nothing of it is missing but the agent's last word
            return
        if job.state is JobState.QUEUED:
            self._waiting.remove(job)
        self._end(job, JobState.CANCELLED, CLIENT_LEFT)

    # --- from the agents' sessions --------------------------------------------------------

    def connect(self, provider: Provider) -> None:
        """An agent is authenticated. An older session of the same identity ends."""
        older = self.fleet.get(provider.provider_id)
        if older is not None:
            older.session.end(REPLACED, "replaced by a newer connection of this identity")
            self.disconnect(older)
        self.fleet.add(provider)
        self._on_event(events.AgentJoined(provider.provider_id))

    def disconnect(self, provider: Provider) -> None:
        """A session is over; its jobs go to others as far as their clients have seen nothing of them."""
        if self.fleet.remove(provider):
            self._on_event(events.AgentLeft(provider.provider_id, provider.name))
            self._lose_jobs(provider)

    def end_session(self, provider_id: str, code: int, reason: str) -> bool:
        """Close the session of this agent; False when it has none."""
        provider = self.fleet.get(provider_id)
        if provider is not None:
            provider.session.end(code, reason)
        return provider is not None

    def deliver(self, provider: Provider, frame: Frame) -> None:
        """Take a frame of an agent that is connected."""
        match frame:
            case frames.JobChunk():
                self._take_chunk(provider, frame)
            case frames.JobStarted():
                self._take_started(provider, frame)
            case frames.JobDone() | frames.JobError():
                self._take_outcome(provider, frame)
            case frames.Heartbeat():
                provider.take_heartbeat(frame)
                self._serve_waiting()
            case frames.Capabilities():
                self._take_capabilities(provider, frame)
            case _:
                raise AssertionError(frame)  # the link lets nothing else through

    def deliver_bad(self, provider: Provider, bad: BadFrame) -> None:
        """Take note of a frame that cannot be read: only the job that it speaks of suffers."""
        job = self._job_at(provider, bad.job_id)
        if job is not None:
            self._attempt_failed(job, provider, UNREADABLE)
            self._serve_waiting()

    def _take_capabilities(self, provider: Provider, frame: frames.Capabilities) -> None:
        rejected = provider.take_capabilities(frame)
        if rejected:  # protocol 2 has no frame to say so
            log.warning("models_rejected", agent=provider.name, count=len(rejected), first=rejected[0].reason)
        provider.session.post(frames.CapabilitiesOk(revision=frame.revision, rejected=rejected))
        self._on_event(events.CapabilitiesTaken(provider.provider_id, provider.name, tuple(provider.offers)))
        self._serve_waiting()

    def _take_started(self, provider: Provider, frame: frames.JobStarted) -> None:
        job = self._job_at(provider, frame.job_id)
        if job is None or not job.may(JobState.STARTED):
            self.late_frames += 1
            return
        job.step(JobState.STARTED)
        job.answer.start(frame.http_status, frame.content_type)

    def _take_chunk(self, provider: Provider, frame: frames.JobChunk) -> None:
        job = self._job_at(provider, frame.job_id)
        if job is None:
            self.late_frames += 1
            return
        if frame.seq is not None and frame.seq != job.chunks:
            self._attempt_failed(job, provider, TORN)
            self._serve_waiting()
            return
        job.chunks += 1
        if job.state is not JobState.STREAMING:
            job.step(JobState.STREAMING)
            job.first_byte_s = self._clock()
        # The window of protocol.md 5 belongs here: what the client has taken would be acknowledged.
        if not job.answer.feed(frame.data):
            self._end(job, JobState.FAILED, CLIENT_TOO_SLOW)

    def _take_outcome(self, provider: Provider, frame: Outcome) -> None:
        """The one place where an agent's word frees a slot."""
        if provider.jobs.pop(frame.job_id, None) is None:
            self.late_frames += 1
            return
        provider.full = False
        self._report_attempt(provider, frame)
        job = self._job_at(provider, frame.job_id)
        if job is None:
            pass  # its client left, or it went to another agent: only the slot was waited for
        elif isinstance(frame, frames.JobError):
            self._attempt_failed(job, provider, failure_of(frame))
        elif frame.seq is not None and frame.seq != job.chunks:
            self._attempt_failed(job, provider, TORN)
        else:
            self._end(job, JobState.DONE, DONE)
        self._serve_waiting()

    def _job_at(self, provider: Provider, job_id: str) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job is not None and job.provider is provider else None

    # --- decisions ------------------------------------------------------------------------

    def _place(self, job: Job) -> None:
        """Dispatch a job that has just come or come back, or let it wait, or say why neither helps.

        1. Somebody has room.
        2. It was at an agent whose session was lost: that agent, or another, may come back.
        3. Nobody can serve it, or nobody else: its client hears of the last failure, if there was one.
        4. It must wait, if the queue has room; one that has waited before keeps its place.
        """
        request, last = job.request, job.last_failure
        choice = choose(request.model_id, request.endpoint, self.fleet.providers, job.excluded)
        if isinstance(choice, Provider):  # 1
            self._dispatch(job, choice)
        elif isinstance(choice, Refusal) and (last is None or blame_of(last.code) is not Blame.GONE):  # 2, 3
            self._end(job, JobState.FAILED, last or failed(choice.code, choice.message))
        elif last is None and len(self._waiting) >= self.limits.queue_max_jobs:  # 4
            self._end(job, JobState.FAILED, QUEUE_FULL)
        else:
            insort(self._waiting, job, key=lambda each: each.arrival)
            self._alarm.set()

    def _serve_waiting(self) -> None:
        """Dispatch whoever may be dispatched now, first come, first served."""
        hopeless: set[tuple[str, str]] = set()
        for job in tuple(self._waiting):
            wanted = (job.request.model_id, job.request.endpoint)
            if wanted in hopeless:
                continue
            choice = choose(*wanted, self.fleet.providers, job.excluded)
            if isinstance(choice, Provider):
                self._waiting.remove(job)
                self._dispatch(job, choice)
            elif not job.excluded:  # one that has been failed by somebody speaks only for itself
                hopeless.add(wanted)

    def _dispatch(self, job: Job, provider: Provider) -> None:
        now_s = self._clock()
        job.give(provider)
        provider.jobs[job.job_id] = Slot(job.request.model_id)
        provider.last_chosen = next(self._numbers)
        provider.session.post(job.frame())
        self._on_event(job.dispatched(now_s))

    def _attempt_failed(self, job: Job, provider: Provider, failure: Failed) -> None:
        """Give the job another try, if that is possible, unseen by its client, and not once too often."""
        self._cancel_if_running(job, "the agent's answer is of no use")
        match blame_of(failure.code):
            case Blame.NO_ROOM:
                provider.full = True
            case Blame.LEAVING:
                provider.draining = True
            case Blame.AT_FAULT:
                job.excluded.add(provider.provider_id)
            case Blame.GONE:
                pass
        if was_tried(failure.code):
            job.failures += 1
            job.waits_until_s = self._clock() + self.limits.queue_max_wait_s
        if not failure.retryable or job.answer.taken or job.failures >= self.limits.max_attempts:
            self._end(job, JobState.FAILED, failure)
        else:
            job.take_back(failure)
            self._place(job)

    def _lose_jobs(self, provider: Provider) -> None:
        """Every slot of a session is free when it ends. Resuming its jobs (protocol.md 7) belongs here."""
        lost, provider.jobs = tuple(provider.jobs), {}
        for job_id in lost:
            self._on_event(events.AttemptEnded(job_id, provider.name, SESSION_LOST.code))
            job = self._job_at(provider, job_id)
            if job is not None:
                self._attempt_failed(job, provider, SESSION_LOST)
        self._serve_waiting()

    def _end(self, job: Job, step: JobState, end: Done | Failed) -> None:
        """The one place where a job leaves `_jobs`, and the one that ends its answer."""
        self._cancel_if_running(job, "client_gone" if step is JobState.CANCELLED else "failed")
        job.step(step)
        del self._jobs[job.job_id]
        if not self._jobs:
            self._idle.set()
        job.answer.end(end)
        self._report_end(job, end)

    def _cancel_if_running(self, job: Job, reason: str) -> None:
        """Tell the agent, once, that nobody wants the answer; its slot stays taken until it says so."""
        provider = job.provider
        slot = provider.jobs.get(job.job_id) if provider is not None else None
        if provider is None or slot is None or slot.frees_at_s is not None:
            return
        slot.frees_at_s = self._clock() + self.limits.cancel_grace_s
        provider.session.post(JobCancel(job_id=job.job_id, reason=reason))
        self._alarm.set()

    # --- time -----------------------------------------------------------------------------

    def expire(self) -> float | None:
        """End what has waited too long; returns the seconds until that may be due again, if ever."""
        now_s = self._clock()
        for job in [job for job in self._waiting if job.waits_until_s <= now_s]:
            self._waiting.remove(job)
            self._end(job, JobState.FAILED, job.last_failure or WAITED_TOO_LONG)
        dues = [job.waits_until_s for job in self._waiting]
        for provider in self.fleet.providers:
            for job_id, slot in tuple(provider.jobs.items()):
                if slot.frees_at_s is not None and slot.frees_at_s <= now_s:
                    log.warning("cancel_not_answered", job_id=job_id, agent=provider.name)
                    del provider.jobs[job_id]
                    self._on_event(events.AttemptEnded(job_id, provider.name, ErrorCode.CANCELLED.value))
                elif slot.frees_at_s is not None:
                    dues.append(slot.frees_at_s)
        self._serve_waiting()
        return max(0.0, min(dues) - now_s) if dues else None

    async def watch(self) -> None:
        """Call `expire` whenever it is due; runs until it is cancelled."""
        while True:
            self._alarm.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.expire()):
                    await self._alarm.wait()

    async def drain(self, grace_s: float) -> None:
        """Take no new jobs, and let those that live come to their end, for `grace_s` at most."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self._waiting.clear()
            for job in tuple(self._jobs.values()):
                self._end(job, JobState.FAILED, STOPPING)

    # --- telling ----------------------------------------------------------------------------

    def _report_attempt(self, provider: Provider, outcome: Outcome) -> None:
        code = outcome.error_code if isinstance(outcome, frames.JobError) else None
        known = outcome.tokens or frames.Tokens()
        self._on_event(events.AttemptEnded(outcome.job_id, provider.name, code, known.input, known.output))

    def _report_end(self, job: Job, end: Done | Failed) -> None:
        ended = job.ended(end, self._clock())
        log.info(
            "job_ended",
            job_id=ended.job_id,
            model_id=ended.model_id,
            agent=ended.agent,
            code=ended.code or "done",
            attempts=ended.attempts,
            duration_ms=round(ended.duration_s * 1000),
        )
        self._on_event(ended)
