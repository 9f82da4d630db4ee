"""Admits jobs, drives each on its backend, ends each with exactly one outcome; knows no socket and no HTTP.

The executor belongs to the process and is lent the channel of the present session. What holds
it together:

1. `submit` and `cancel` never wait: checking for a slot and taking it is one step.
2. A running job is a row in `_running` and nothing else; every count is derived from it.
3. A job's task returns its outcome, and `_end`, called when the task is over, posts it. So a
   job that is cancelled before its first step has its outcome, too, and none has two.
4. The task is over only after the backend's connection is closed: then the slot is free.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from provider_agent.agent.budget import TokenBudget
from provider_agent.agent.outcomes import EndedJob, OutcomeMemory, Outlet, RunningJob, cancelled, refusal
from provider_agent.agent.routing import Refusal, Route, RoutingTable, with_room
from provider_agent.backends.base import BackendError, BackendUnreachable, Call, ModelNotFound
from provider_agent.protocol.errors import BadFrame, ErrorCode
from provider_agent.protocol.frames import Job, JobStarted, Outcome
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.channel import BackpressureTimeout, ChannelClosed

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """What the operator allows; bytes and seconds."""

    max_concurrent: int = 8
    max_job_bytes: int = 32 * 1024 * 1024
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    max_tokens_per_minute: int | None = None
    max_output_tokens: int | None = None


class Executor:
    """All jobs of this process. Use it as an async context manager: leaving it stops what still runs.

    Attributes:
        table: the present routing table; replaced when the catalog changes.
        draining: new jobs are refused; what runs may finish.
        on_unreachable: told the name of a backend that a job could not reach.
    """

    def __init__(
        self,
        table: RoutingTable,
        limits: ExecutorLimits,
        *,
        clock: Callable[[], float],
        on_end: Callable[[EndedJob], None] = lambda _: None,
        on_refused: Callable[[ErrorCode], None] = lambda _: None,
    ) -> None:
        self.table = table
        self.limits = limits
        self.draining = False
        self._clock = clock
        self._on_end = on_end
        self._on_refused = on_refused
        self.on_unreachable: Callable[[str], None] = lambda _: None
        self._running: dict[str, RunningJob] = {}
        self._memory = OutcomeMemory()
        self._budget = TokenBudget(limits.max_tokens_per_minute)
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all(ErrorCode.AGENT_SHUTDOWN)
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def running(self) -> tuple[RunningJob, ...]:
        return tuple(self._running.values())

    def active_on(self, backend_name: str) -> int:
        return sum(running.route.backend.name == backend_name for running in self.running)

    # --- decisions: nothing here waits ----------------------------------------------------

    def submit(self, job: Job, outlet: Outlet) -> None:
        """Start the job, or refuse it, or answer it with what is known of it already."""
        running = self._running.get(job.job_id)
        if running is not None:
            if job.attempt > running.job.attempt:
                reason = "an earlier attempt of this job still runs"
                self._refuse(job, outlet, Refusal(ErrorCode.DUPLICATE_JOB, reason))
            return
        known = self._memory.outcome(self._clock(), job)
        if known is not None:
            outlet.post(known)
            return
        routes = self._admit(job)
        if isinstance(routes, Refusal):
            self._refuse(job, outlet, routes)
            return
        self._start(RunningJob(job, outlet, routes, routes[0], self._clock()))

    def refuse_malformed(self, bad: BadFrame, outlet: Outlet) -> None:
        """A job that cannot be read is owed an outcome all the same, once its id is known."""
        if bad.job_id not in self._running:
            outlet.post(refusal(bad.job_id, ErrorCode.BAD_REQUEST, str(bad)))

    def cancel(self, job_id: str, outlet: Outlet) -> None:
        """Nobody wants the answer: nothing of it leaves any more but its outcome.

        1. The job runs: it is stopped.
        2. It has ended, but its outcome still waits behind its chunks: those are dropped.
        3. It is not known here, or is over and answered.
        """
        running = self._running.get(job_id)
        if running is not None:  # 1
            self._stop(running, ErrorCode.CANCELLED)
            return
        unsent = outlet.discard(job_id)
        if unsent is not None:  # 2
            outcome = cancelled(unsent)
            self._memory.revise(outcome)
            outlet.finish(outcome)
        else:  # 3
            outlet.post(refusal(job_id, ErrorCode.UNKNOWN_JOB, "no such job runs here"))

    def stop_all(self, code: ErrorCode, outlet: Outlet | None = None) -> None:
        """End what runs (of one session, if `outlet` is given) and say why."""
        for running in self.running:
            if outlet is None or running.outlet is outlet:
                self._stop(running, code)

    async def drain(self, grace_s: float) -> None:
        """Refuse new jobs, let the running ones finish for `grace_s`, then stop the rest."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self.stop_all(ErrorCode.AGENT_SHUTDOWN)
            await self._idle.wait()

    def _admit(self, job: Job) -> tuple[Route, ...] | Refusal:
        """The routes that are free for the job; permanent reasons against it before passing ones (I7)."""
        routes = self.table.routes(job.model_id, job.path)
        if isinstance(routes, Refusal):
            return routes
        if memoryview(job.request).nbytes > self.limits.max_job_bytes:
            limit = self.limits.max_job_bytes
            return Refusal(ErrorCode.REQUEST_TOO_LARGE, f"the request is larger than {limit} bytes")
        if self.draining:
            return Refusal(ErrorCode.DRAINING, "this agent is leaving")
        wait_s = self._budget.wait_s(self._clock())
        if wait_s:
            reason = "this agent has served all the tokens that its operator allows in a minute"
            return Refusal(ErrorCode.RATE_LIMITED, reason, retry_after_ms=math.ceil(wait_s * 1000))
        if len(self._running) >= self.limits.max_concurrent:
            return Refusal(ErrorCode.OUT_OF_CAPACITY, "all slots of this agent are taken")
        return with_room(routes, self._active) or Refusal(
            ErrorCode.OUT_OF_CAPACITY, "all slots for this model are taken"
        )

    def _active(self, route: Route) -> tuple[int, int]:
        """Jobs on the route's backend, and how many of them with the route's model."""
        there = [r.route.model.model_id for r in self.running if r.route.backend.name == route.backend.name]
        return len(there), there.count(route.model.model_id)

    def _refuse(self, job: Job, outlet: Outlet, why: Refusal) -> None:
        log.info("job_refused", job_id=job.job_id, model_id=job.model_id, code=why.code.value)
        outlet.post(refusal(job.job_id, why.code, why.message, why.retry_after_ms))
        self._on_refused(why.code)

    def _start(self, running: RunningJob) -> None:
        self._running[running.job.job_id] = running
        self._idle.clear()
        running.task = self._tasks.create_task(self._outcome(running))
        running.task.add_done_callback(lambda task: self._end(running, task))

    def _stop(self, running: RunningJob, code: ErrorCode) -> None:
        running.outlet.discard(running.job.job_id)
        if running.stopping is None and running.task is not None:
            running.stopping = code
            running.task.cancel()

    def _end(self, running: RunningJob, task: asyncio.Task[Outcome]) -> None:
        """The one place where a job leaves `_running`, and the one that posts its outcome."""
        now_s = self._clock()
        if running.stopping is not None or task.cancelled():
            code = running.stopping or ErrorCode.AGENT_SHUTDOWN
            outcome: Outcome = running.failed(now_s, code, "the job was stopped before its end")
        else:
            outcome = task.result()
        del self._running[running.job.job_id]
        if not self._running:
            self._idle.set()
        self._memory.keep(now_s, running.job, running.repeated(outcome))
        running.outlet.finish(outcome)
        ended = EndedJob.of(running, outcome, now_s)
        self._budget.spend(now_s, (ended.usage.input_tokens or 0) + (ended.usage.output_tokens or 0))
        log.info(
            "job_ended",
            job_id=ended.job_id,
            model_id=ended.model_id,
            backend=ended.backend,
            code=ended.code.value if ended.code else "done",
            duration_ms=outcome.duration_ms,
            output_tokens=ended.usage.output_tokens,
        )
        self._on_end(ended)

    # --- driving one job: only bytes wait -------------------------------------------------

    async def _outcome(self, running: RunningJob) -> Outcome:
        """Run the job to its end; everything that can go wrong becomes the outcome's code."""
        deadline_ms = running.job.deadline_ms
        try:
            async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1000):
                await self._drive(running)
        except BackendError as error:
            return running.failed(self._clock(), error.code, error.message, error)
        except TimeoutError:
            return running.failed(
                self._clock(), ErrorCode.BACKEND_TIMEOUT, f"the job's deadline of {deadline_ms} ms passed"
            )
        except BackpressureTimeout as error:
            return running.failed(self._clock(), ErrorCode.BACKPRESSURE_TIMEOUT, str(error))
        except ChannelClosed:
            return running.failed(
                self._clock(), ErrorCode.SESSION_LOST, "the session ended before the job did"
            )
        except Exception:  # the job boundary: a defect of ours ends this job and no other
            log.exception("job_crashed", job_id=running.job.job_id)
            return running.failed(self._clock(), ErrorCode.INTERNAL, "a defect in the agent ended the job")
        return running.done(self._clock())

    async def _drive(self, running: RunningJob) -> None:
        """Try the routes in order until one answers; a job is bound to the one whose bytes it sent.

        A backend may have filled up since the job was admitted: its limit holds for the second choice, too.
        """
        routes = running.routes
        while True:
            running.route = routes[0]
            try:
                return await self._relay(running, routes[0])
            except (BackendUnreachable, ModelNotFound) as error:
                if isinstance(error, BackendUnreachable):
                    self.on_unreachable(running.route.backend.name)
                routes = with_room(routes[1:], self._active)
                if not routes:
                    raise

    async def _relay(self, running: RunningJob, route: Route) -> None:
        """The hot path: every byte of the answer passes through the loop below."""
        job, relay, clock = running.job, running.outlet.relay, self._clock
        running.opened_s = clock()
        async with route.backend.open(self._call(job, route)) as reply:
            running.reply = reply
            running.outlet.post(
                JobStarted(
                    job_id=job.job_id,
                    backend=route.backend.name,
                    upstream_model=route.model.model_id,
                    http_status=reply.http_status,
                    content_type=reply.content_type,
                )
            )
            async for data in reply:
                read_s = clock()
                if running.first_byte_s is None:
                    running.first_byte_s = read_s
                await relay(job.job_id, data)
                running.relayed_bytes += len(data)
                running.relayed_reads += 1
                running.stalled_s += clock() - read_s

    def _call(self, job: Job, route: Route) -> Call:
        first_byte_ms, idle_ms = job.first_byte_timeout_ms, job.idle_timeout_ms
        limits = self.limits
        return Call(
            endpoint=job.path,
            model=route.model.model_id,
            body=bytes(job.request),
            stream=job.stream,
            first_byte_timeout_s=first_byte_ms / 1000 if first_byte_ms else limits.first_byte_timeout_s,
            idle_timeout_s=idle_ms / 1000 if idle_ms else limits.idle_timeout_s,
            max_output_tokens=limits.max_output_tokens,
        )
