"""Owner of live jobs: gives them to providers, takes them back, ends them. Knows no frame that comes.

1. A slot is taken at dispatch and freed by the agent's outcome, by its loss, or `cancel_grace_s` after a
   cancel that was not answered. A job that is over may still hold one.
2. After `serve_waiting` no job waits that could be dispatched. So jobs of one model are served in the
   order of their arrival, and those of another model are not held up by them.
3. A job whose agent is away waits for its return; one whose client has seen nothing of it goes to
   another agent that has room, once it has waited for so long as that is allowed.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from provider_agent.coordinator import events
from provider_agent.coordinator.alarm import Alarm
from provider_agent.coordinator.answer import Done, Failed
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.failures import (
    CLIENT_LEFT,
    QUEUE_FULL,
    SESSION_LOST,
    STOPPING,
    WAITED_TOO_LONG,
    Blame,
    blame_of,
    failed,
    may_pass,
    was_tried,
)
from provider_agent.coordinator.fleet import Fleet, Provider, Slot
from provider_agent.coordinator.jobs import Job, JobState
from provider_agent.coordinator.queue import Queue, arrival_of
from provider_agent.coordinator.scheduler import Refusal, Wait, away, choose
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import JobCancel, Tokens
from provider_agent.protocol.window import WINDOW_BYTES
from provider_agent.telemetry.logs import get_logger

NO_TOKENS = Tokens()

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """What the coordinator bears; seconds, jobs and bytes.

    Attributes:
        max_attempts: agents that may fail one job before its client is told.
        answer_bytes: how much of one answer may wait for its client.
        window_bytes: how much of one answer may be on its way from its agent, and not taken by its client.
        cancel_grace_s: how long a cancelled job counts as running while its agent says nothing.
        resume_window_s: how long an agent that was lost is waited for; 0 for not at all.
        move_after_s: for so long only its return is waited for, and then room at other agents, too. An
            agent that had fallen silent before was waited for already.
        young_s: for so long after the start, a model that nobody has offered yet is waited for.
    """

    queue_max_wait_s: float = 30.0
    queue_max_jobs: int = 1000
    max_attempts: int = 3
    answer_bytes: int = 8 * 1024 * 1024
    window_bytes: int = WINDOW_BYTES
    cancel_grace_s: float = 10.0
    resume_window_s: float = 60.0
    move_after_s: float = 2.0
    young_s: float = 0.0


class Placing:
    """Each call is one step, so steps cannot race.

    Attributes:
        jobs: those that are not over, by id.
        waiting: those of them that no provider has.
        is_idle: set while there are none.
    """

    def __init__(
        self,
        limits: DispatchLimits,
        fleet: Fleet,
        alarm: Alarm,
        *,
        clock: Callable[[], float],
        on_event: Callable[[Event], None],
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self.waiting = Queue()
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._limits = limits
        self._fleet = fleet
        self._alarm = alarm
        self._clock = clock
        self._on_event = on_event
        self._log = log.bind()  # once: each job ends with a line
        self._dispatches = itertools.count(1)

    def job_at(self, provider: Provider, job_id: str) -> Job | None:
        """The job of this id, if it lives and this provider has it."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.provider is provider else None

    # --- a job comes and goes -------------------------------------------------------------

    def admit(self, job: Job, *, refuse_as: Failed | None = None) -> None:
        """A new job; with a failure, it is at its end at once."""
        self.jobs[job.job_id] = job
        self.is_idle.clear()
        if refuse_as is not None:
            self.end(job, JobState.FAILED, refuse_as)
        else:
            self.place(job)

    def abandon(self, job: Job) -> None:
        """Its client does not wait any more."""
        slot = None if job.provider is None else job.provider.jobs.get(job.job_id)
        if job.is_over:
            return
        if job.answer.has_end_mark and slot is not None:  # what is missing is the agent's last word
            slot.frees_at_s = self._clock() + self._limits.cancel_grace_s
            self._alarm.set(slot.frees_at_s)
            return
        if job.state is JobState.QUEUED:
            self.waiting.remove(job)
        self.end(job, JobState.CANCELLED, CLIENT_LEFT)

    def end(self, job: Job, step: JobState, end: Done | Failed) -> None:
        """The one place where a job leaves `jobs`, and the one that ends its answer."""
        self._cancel_if_running(job, "client_gone" if step is JobState.CANCELLED else "failed")
        job.step(step)
        del self.jobs[job.job_id]
        if not self.jobs:
            self.is_idle.set()
        job.answer.end(end)
        self._report_end(job, end)

    def stop(self) -> None:
        """End whatever lives."""
        self.waiting.clear()
        for job in tuple(self.jobs.values()):
            self.end(job, JobState.FAILED, STOPPING)

    # --- who gets it ----------------------------------------------------------------------

    def place(self, job: Job) -> None:
        """Dispatch a job that has just come or come back, or let it wait, or say why neither helps.

        1. Somebody has room.
        2. It was at an agent whose session was lost, or whose engine is away: it, or another, may come back.
        3. Nobody can serve it, or nobody else: its client hears of the last failure, if there was one.
        4. It must wait, if the queue has room; one that has waited before keeps its place.
        """
        last = job.last_failure
        choice = self._choose(job)
        if isinstance(choice, Provider):  # 1
            self._dispatch(job, choice)
        elif isinstance(choice, Refusal) and not may_pass(last):  # 2, 3
            self.end(job, JobState.FAILED, last or failed(choice.code, choice.message))
        elif last is None and len(self.waiting) >= self._limits.queue_max_jobs:  # 4
            self.end(job, JobState.FAILED, QUEUE_FULL)
        else:
            self._let_wait(job, choice)

    def _let_wait(self, job: Job, choice: Wait | Refusal) -> None:
        """For a slot, or, for less time perhaps, until somebody has its model."""
        if isinstance(choice, Wait) and choice.at_most_s is not None:
            job.waits_until_s = min(job.waits_until_s, self._clock() + choice.at_most_s)
        self.waiting.add(job)
        self._alarm.set(job.waits_until_s)

    def serve_waiting(self) -> None:
        """Dispatch whoever may be dispatched now, first come, first served."""
        hopeless: dict[tuple[str, str], int] = {}  # for requests of this size, and so for larger ones
        for job in self._who_want_room():
            wanted, size_bytes = (job.request.model_id, job.request.endpoint), len(job.request.body)
            if wanted in hopeless and size_bytes >= hopeless[wanted]:
                continue
            choice = self._choose(job)
            if isinstance(choice, Provider):
                if job.provider is None:
                    self.waiting.remove(job)
                else:
                    self._leave_away(job, job.provider)
                self._dispatch(job, choice)
            elif not job.excluded:  # one that has been failed by somebody speaks only for itself
                hopeless[wanted] = size_bytes

    def forgive(self, provider: Provider, model_ids: Collection[str]) -> None:
        """It offers these anew: at what it failed before it took them off, it may be tried again.

        An engine that was away for a moment may never have been taken off: it is tried again now and then.
        That goes for jobs that another agent has now, too: it may fail them yet.
        """
        provider_id = provider.provider_id
        for job in self.jobs.values():
            failure = job.excluded.get(provider_id)
            if failure is not None and (job.request.model_id in model_ids or may_pass(failure)):
                del job.excluded[provider_id]

    def _choose(self, job: Job) -> Provider | Wait | Refusal:
        request = job.request
        model_id = request.model_id
        return choose(
            model_id,
            request.endpoint,
            self._fleet.having(model_id),
            job.excluded,
            size_bytes=len(request.body),
            back_within_s=self._fleet.back_within_s(model_id),
        )

    def _who_want_room(self) -> list[Job]:
        """The queue, and those who may leave an agent that is away, in the order of arrival."""
        if not self._fleet.away:
            return list(self.waiting)
        return sorted([*self.waiting, *self._movable()], key=arrival_of)

    def _movable(self) -> Iterator[Job]:
        now_s = self._clock()
        for provider in self._fleet.away.values():
            if provider.moves_at_s <= now_s:
                jobs = (self.job_at(provider, job_id) for job_id in provider.jobs)
                yield from (job for job in jobs if job is not None and self._may_try_again(job, 1))

    def _may_try_again(self, job: Job, more_failures: int = 0) -> bool:
        return not job.answer.taken and job.failures + more_failures < self._limits.max_attempts

    def _dispatch(self, job: Job, provider: Provider) -> None:
        slot = provider.seat(job.job_id, job.request.model_id)
        job.give(provider, slot.stream_id, self._limits.window_bytes)
        provider.last_chosen = next(self._dispatches)
        if provider.session is not None:  # who has room is present
            provider.session.post(job.frame())
        self._on_event(job.dispatched(self._clock()))

    # --- an attempt ends ------------------------------------------------------------------

    def attempt_failed(
        self, job: Job, provider: Provider, failure: Failed, *, was_begun: bool = True
    ) -> None:
        """Give the job another try, if that is possible, unseen by its client, and not once too often.

        An attempt that nobody began, as far as is known, is none of those.
        """
        self._cancel_if_running(job, "the agent's answer is of no use")
        match blame_of(failure.code):
            case Blame.NO_ROOM:
                provider.full_for.add(job.request.model_id)
            case Blame.LEAVING:
                provider.draining = True
            case Blame.AT_FAULT | Blame.ENGINE_AWAY:
                job.excluded[provider.provider_id] = failure
            case Blame.GONE:
                pass
        if was_tried(failure.code):
            job.failures += was_begun
            job.waits_until_s = self._clock() + self._limits.queue_max_wait_s
        if failure.retryable and self._may_try_again(job):
            job.take_back(failure)
            self.place(job)
        else:
            self.end(job, JobState.FAILED, failure)

    def lose(self, provider: Provider, job_ids: Iterable[str], *, is_back: bool = False) -> None:
        """These jobs of a provider are lost; they go to others as far as their clients have seen nothing.

        Where the agent `is_back` and does not know of a job, its frame was lost on the way.
        """
        for job_id in tuple(job_ids):
            job = self.job_at(provider, job_id)
            self.release(provider, job_id, SESSION_LOST.code)
            if job is not None:
                was_begun = not is_back or job.state is not JobState.DISPATCHED
                self.attempt_failed(job, provider, SESSION_LOST, was_begun=was_begun)
        self.serve_waiting()

    def forget_ended(self, provider: Provider) -> None:
        """Free the slots of jobs that are over: their agent hears that they are unknown when it resumes."""
        for job_id in tuple(provider.jobs):
            if self.job_at(provider, job_id) is None:
                self.release(provider, job_id, ErrorCode.CANCELLED.value)

    def release(
        self, provider: Provider, job_id: str, code: str | None, tokens: Tokens | None = None
    ) -> bool:
        """Free a slot; False when there was none. The one place where slots become free."""
        if not provider.free(job_id):
            return False
        known = tokens or NO_TOKENS
        self._on_event(events.AttemptEnded(job_id, provider.name, code, known.input, known.output))
        return True

    def _leave_away(self, job: Job, provider: Provider) -> None:
        """Take a job from a provider that is away; it hears of that when it is back."""
        self.release(provider, job.job_id, SESSION_LOST.code)
        job.failures += 1
        job.take_back(SESSION_LOST)

    def _cancel_if_running(self, job: Job, reason: str) -> None:
        """Tell the agent, once, that nobody wants the answer; its slot stays taken until it says so.

        One that is away has no slots to give, so its slot need not stay.
        """
        provider = job.provider
        slot = provider.jobs.get(job.job_id) if provider is not None else None
        if provider is None or slot is None or slot.frees_at_s is not None:
            return
        if provider.session is None:
            self.release(provider, job.job_id, ErrorCode.CANCELLED.value)
            return
        slot.frees_at_s = self._clock() + self._limits.cancel_grace_s
        provider.session.post(JobCancel(job_id=job.job_id, reason=reason))
        self._alarm.set(slot.frees_at_s)

    # --- time -----------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """End what has waited too long, and free the slots of cancels that were not answered in time."""
        for job in self.waiting.overdue(now_s):
            self._end_waiting(job, now_s)
        for provider in self._fleet.providers:
            for job_id, slot in tuple(provider.jobs.items()):
                if slot.frees_at_s is not None and slot.frees_at_s <= now_s:
                    self._wait_no_more(provider, job_id, slot)

    def _end_waiting(self, job: Job, now_s: float) -> None:
        """Unless its model has come meanwhile, and it has not waited for a slot yet."""
        choice, longest_s = self._choose(job), job.arrived_s + self._limits.queue_max_wait_s
        if isinstance(choice, Wait) and now_s < longest_s:
            job.waits_until_s = longest_s
            self._let_wait(job, choice)
            return
        if isinstance(choice, Wait) and choice.at_most_s is not None:
            choice = away(job.request.model_id)
        refusal = failed(choice.code, choice.message) if isinstance(choice, Refusal) else WAITED_TOO_LONG
        self.end(job, JobState.FAILED, job.last_failure or refusal)

    def _wait_no_more(self, provider: Provider, job_id: str, slot: Slot) -> None:
        """The agent has said nothing: of a cancel, or of the end of a job whose client has all it wanted."""
        job = self.job_at(provider, job_id)
        if job is not None:
            slot.frees_at_s = None
            self.end(job, JobState.CANCELLED, CLIENT_LEFT)
            return
        log.warning("cancel_not_answered", job_id=job_id, agent=provider.name)
        self.release(provider, job_id, ErrorCode.CANCELLED.value)

    def dues_s(self) -> Iterator[float]:
        """When there will be more to expire."""
        yield from (job.waits_until_s for job in self.waiting)
        for provider in self._fleet.providers:
            yield from (slot.frees_at_s for slot in provider.jobs.values() if slot.frees_at_s is not None)

    # --- telling --------------------------------------------------------------------------

    def _report_end(self, job: Job, end: Done | Failed) -> None:
        ended = job.ended(end, self._clock())
        self._log.info(
            "job_ended",
            job_id=ended.job_id,
            model_id=ended.model_id,
            agent=ended.agent,
            code=ended.code or "done",
            attempts=ended.attempts,
            duration_ms=round(ended.duration_s * 1000),
        )
        self._on_event(ended)
