"""Sole owner of the fleet and of live jobs: events in, frames and answers out. Knows no HTTP and no socket.

1. Nothing here waits, but for `watch` and `drain`: each event is one step, so steps cannot race.
2. A chunk counts only from the provider that has the job now; all else is late, and ignored.
3. Who is present is decided in `Presence`, who gets a job in `Placing`, what is acknowledged in `Acks`:
   they share the fleet and the jobs, and nobody else changes either.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial

from provider_agent.coordinator import events
from provider_agent.coordinator.acks import Acks, Later, on_the_loop
from provider_agent.coordinator.alarm import Alarm
from provider_agent.coordinator.answer import DONE, Answer, Failed
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.failures import (
    CLIENT_TOO_SLOW,
    OVERRUN,
    STOPPING,
    TORN,
    UNREADABLE,
    Blame,
    blame_of,
    failure_of,
)
from provider_agent.coordinator.fleet import Fleet, Provider, Session, plain_text
from provider_agent.coordinator.jobs import Job, JobRequest, JobState, make_job_id
from provider_agent.coordinator.placing import DispatchLimits, Placing
from provider_agent.coordinator.presence import Presence
from provider_agent.protocol import frames
from provider_agent.protocol.errors import BadFrame
from provider_agent.protocol.frames import BinaryChunk, Frame, JobChunk, Outcome, Resume, Resumed
from provider_agent.protocol.window import Arrival
from provider_agent.telemetry.logs import get_logger
from provider_agent.telemetry.metrics import CoordinatorView

__all__ = ["DispatchLimits", "Dispatcher"]

log = get_logger(__name__)


class Dispatcher:
    """Brings jobs to agents, and what agents say to the clients that wait for it.

    Attributes:
        fleet: all agents that are present or may come back; others only read it.
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
        later: Later = on_the_loop,
    ) -> None:
        self.limits = limits
        self.fleet = Fleet(clock=clock, young_s=limits.young_s)
        self.draining = False
        self.late_frames = 0
        self._clock = clock
        self._on_event = on_event
        self._new_job_id = new_job_id
        self._arrivals = itertools.count(1)
        self._alarm = Alarm()
        self._placing = Placing(limits, self.fleet, self._alarm, clock=clock, on_event=on_event)
        self._presence = Presence(
            limits, self.fleet, self._placing, self._alarm, clock=clock, on_event=on_event
        )
        self._jobs = self._placing.jobs
        self._acks = Acks(self._jobs, later)

    def view(self) -> CoordinatorView:
        """How things stand, in numbers."""
        present = [provider for provider in self.fleet.providers if provider.session is not None]
        return CoordinatorView(
            agents=len(present),
            models=len(self.fleet.models),
            free_slots=sum(_free_slots(provider) for provider in present),
            running_jobs=sum(len(provider.jobs) for provider in self.fleet.providers),
            waiting_jobs=len(self._placing.waiting),
        )

    # --- from the clients' doors ----------------------------------------------------------

    @contextlib.contextmanager
    def run(self, request: JobRequest) -> Iterator[Answer]:
        """Have a request served for as long as the block lasts; leaving it before the end is a cancel."""
        job = self._admit(request)
        try:
            yield job.answer
        finally:
            self._placing.abandon(job)

    def _admit(self, request: JobRequest) -> Job:
        now_s, job_id = self._clock(), self._new_job_id()
        job = Job(
            job_id,
            request,
            Answer(job_id, self.limits.answer_bytes, partial(self._acks.consumed, job_id)),
            arrival=next(self._arrivals),
            arrived_s=now_s,
            waits_until_s=now_s + self.limits.queue_max_wait_s,
        )
        self._placing.admit(job, refuse_as=STOPPING if self.draining else None)
        return job

    # --- from the agents' sessions --------------------------------------------------------

    def join(
        self,
        provider_id: str,
        session: Session,
        protocol: int,
        resume: Resume | None = None,
        given_name: str = "",
    ) -> tuple[Provider, Resumed | None]:
        """An agent is authenticated, and may want to resume its last session, which ends if it has not yet.

        What it is to be told is decided here. Jobs follow once it has said what it serves, and perhaps its
        name: until then, and without one, it goes by the `given_name`.
        """
        newer = Provider(provider_id, session, protocol=protocol, given_name=plain_text(given_name))
        return self._presence.join(newer, resume)

    def part(
        self, provider: Provider, session: Session, *, resumable: bool, was_silent: bool = False
    ) -> None:
        """A session is over. Without effect when another one has followed it.

        With `resumable` false the agent is gone for good; `was_silent`: it was not heard for some time.
        """
        self._presence.part(provider, session, resumable=resumable, was_silent=was_silent)
        self._placing.serve_waiting()

    def end_session(self, provider_id: str, code: int, reason: str) -> bool:
        """Close the session of this agent, or do not wait for it any more; False when it is not known."""
        provider = self.fleet.get(provider_id)
        if provider is None:
            return False
        if provider.session is not None:
            provider.session.end(code, reason)
        else:
            self._presence.lose(provider)
        return True

    def deliver(self, provider: Provider, frame: Frame) -> None:
        """Take a frame of an agent that is connected. First of all chunks: every token pays for this."""
        if type(frame) is BinaryChunk:
            job = self._jobs.get(provider.streams.get(frame.stream_id, ""))
        elif type(frame) is JobChunk:
            job = self._jobs.get(frame.job_id)
        else:
            self._take(provider, frame)
            return
        if job is None or job.provider is not provider:
            self.late_frames += 1
            return
        seq, data = frame.seq, frame.data
        if seq is None:
            seq = job.inflow.have_seq + 1
        arrival = job.inflow.receive(seq, len(data))
        if arrival is not Arrival.NEXT:
            self._take_misplaced(provider, job, arrival)
            return
        if job.state is not JobState.STREAMING:
            job.step(JobState.STREAMING)
            job.first_byte_s = self._clock()
        if data and not job.answer.feed(data):
            self._placing.end(job, JobState.FAILED, CLIENT_TOO_SLOW)

    def _take_misplaced(self, provider: Provider, job: Job, arrival: Arrival) -> None:
        """A chunk that is not the next one: one of before the session broke off, or something is amiss."""
        if arrival is not Arrival.AGAIN:
            self._fail(provider, job, TORN if arrival is Arrival.GAP else OVERRUN)

    def _take(self, provider: Provider, frame: Frame) -> None:
        if self.fleet.get(provider.provider_id) is not provider:  # a newer session has followed this one
            self.late_frames += 1
            return
        match frame:
            case frames.JobDone() | frames.JobError():
                self._take_outcome(provider, frame)
            case frames.JobStarted():
                self._take_started(provider, frame)
            case frames.Heartbeat():
                provider.take_heartbeat(frame)
                self._placing.forgive(provider, ())
                self._placing.serve_waiting()
            case frames.Capabilities():
                self._take_capabilities(provider, frame)
            case _:
                raise AssertionError(frame)  # the link lets nothing else through

    def deliver_bad(self, provider: Provider, bad: BadFrame) -> None:
        """Take note of a frame that cannot be read: only the job that it speaks of suffers."""
        job = self._placing.job_at(provider, bad.job_id)
        if job is not None:
            self._fail(provider, job, UNREADABLE)

    def _fail(self, provider: Provider, job: Job, failure: Failed) -> None:
        self._placing.attempt_failed(job, provider, failure)
        self._placing.serve_waiting()

    def _take_capabilities(self, provider: Provider, frame: frames.Capabilities) -> None:
        """What it serves; the first ones of a session that was resumed end its handshake.

        Slots and warmth change by the minute: only other models are worth telling those who watch.
        """
        had, before = provider.offers.keys(), provider.offers.keys() if provider.serves else None
        if not provider.serves:
            for job in filter(None, (self._placing.job_at(provider, job_id) for job_id in provider.jobs)):
                self._acks.repeat(job)
        rejected = self.fleet.take_capabilities(provider, frame)
        if rejected:  # protocol 2 has no frame to say so
            log.warning("models_rejected", agent=provider.name, count=len(rejected), first=rejected[0].reason)
        if provider.session is not None:
            provider.session.post(frames.CapabilitiesOk(revision=frame.revision, rejected=rejected))
        if provider.offers.keys() != before:
            models = tuple(provider.offers)
            self._on_event(events.CapabilitiesTaken(provider.provider_id, provider.name, models))
        self._placing.forgive(provider, provider.offers.keys() - had)
        self._placing.serve_waiting()

    def _take_started(self, provider: Provider, frame: frames.JobStarted) -> None:
        job = self._placing.job_at(provider, frame.job_id)
        if job is None or not job.may(JobState.STARTED):
            self.late_frames += 1
            return
        job.step(JobState.STARTED)
        job.answer.start(frame.http_status, frame.content_type)

    def _take_outcome(self, provider: Provider, frame: Outcome) -> None:
        """The one place where an agent's word frees a slot."""
        self._acks.acknowledge(provider, frame)
        code = frame.error_code if isinstance(frame, frames.JobError) else None
        if not self._placing.release(provider, frame.job_id, code, frame.tokens):
            self.late_frames += 1
            return
        if code is None or blame_of(code) is not Blame.NO_ROOM:  # a refusal has made no room for others
            provider.full_for.clear()
        job = self._placing.job_at(provider, frame.job_id)
        if job is None:
            pass  # its client left, or it went to another agent: only the slot was waited for
        elif isinstance(frame, frames.JobError):
            self._placing.attempt_failed(job, provider, failure_of(frame))
        elif frame.seq is not None and frame.seq != job.inflow.have_seq + 1:
            self._placing.attempt_failed(job, provider, TORN)
        else:
            self._placing.end(job, JobState.DONE, DONE)
        self._placing.serve_waiting()

    # --- time -----------------------------------------------------------------------------

    def expire(self) -> float | None:
        """End what has waited too long; returns the seconds until that may be due again, if ever."""
        now_s = self._clock()
        self._placing.expire(now_s)
        self._presence.expire(now_s)
        self._placing.serve_waiting()
        due_s = min((*self._placing.dues_s(), *self._presence.dues_s(now_s)), default=None)
        self._alarm.reset(due_s)
        return None if due_s is None else max(0.0, due_s - now_s)

    async def watch(self) -> None:
        """Call `expire` whenever it is due; runs until it is cancelled."""
        while True:
            await self._alarm.wait(self.expire())

    async def drain(self, grace_s: float) -> None:
        """Take no new jobs, and let those that live come to their end, for `grace_s` at most."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._placing.is_idle.wait()
        except TimeoutError:
            self._placing.stop()


def _free_slots(provider: Provider) -> int:
    """Jobs that it could take now of what it offers; several names may stand for one model."""
    return min(provider.free_slots, sum(provider.free_slots_for(model_id) for model_id in provider.offers))
