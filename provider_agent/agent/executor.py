"""All jobs of this process: takes each on, has it driven, ends it with exactly one outcome; knows no socket.

The executor belongs to the process and is lent the channel of the present session. What holds
it together:

1. `submit`, `cancel` and `ack` never wait: checking for a slot and taking it is one step.
2. A running job is a row in `_running` and nothing else; every count is derived from it.
3. A job's task returns its outcome, and `_end`, called when the task is over, hands it to the job's
   lane. So a job that is cancelled before its first step has its outcome, too, and none has two.
4. The task is over only after the backend's connection is closed and every byte has left: then the
   slot is free.
5. A lane outlives sessions. It is kept until the coordinator has acknowledged the outcome, or has
   not come back in time, or says that it does not know the job.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from provider_agent.agent.admission import ExecutorLimits, Situation, admit
from provider_agent.agent.breaker import Breaker
from provider_agent.agent.budget import TokenBudget
from provider_agent.agent.driver import Driver
from provider_agent.agent.lanes import lane_for
from provider_agent.agent.outcomes import (
    WHY_STOPPED,
    EndedJob,
    NoOutlet,
    OutcomeMemory,
    Outlet,
    RunningJob,
    cancelled,
    is_told,
    lost,
    refusal,
)
from provider_agent.agent.pump import Pump
from provider_agent.agent.resume import KeptLanes, ResumeWindow
from provider_agent.agent.routing import Refusal, Route, RoutingTable
from provider_agent.protocol.errors import BadFrame, ErrorCode
from provider_agent.protocol.frames import (
    LEGACY_PROTOCOL,
    Job,
    Outcome,
    Resumed,
    ResumeJob,
)
from provider_agent.protocol.window import BadAck
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.lane import Lane

__all__ = ["Executor", "ExecutorLimits"]

log = get_logger(__name__)


class Executor:
    """All jobs of this process. Use it as an async context manager: leaving it stops what still runs.

    Attributes:
        table: the present routing table; replaced when the catalog changes.
        breaker: which routes take no job now.
        draining: new jobs are refused; what runs may finish.
        paused: says what new jobs are told while the agent rests; what runs may finish.
        on_unreachable, on_missing: told the name of a backend that a job could not reach, or that has not got
            the job's model.
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
        self.paused: Callable[[], Refusal | None] = lambda: None
        self.on_unreachable: Callable[[str], None] = lambda _: None
        self.on_missing: Callable[[str], None] = lambda _: None
        self._clock = clock
        self._on_end = on_end
        self._on_refused = on_refused
        self._log = log.bind()  # once: to look up the log's present form takes longer than most of a job
        self._nowhere = NoOutlet()
        self._channel: Outlet = self._nowhere
        self._running: dict[str, RunningJob] = {}
        self.breaker = Breaker(clock=clock, running=self._running.values)
        self._driver = Driver(
            limits,
            clock=clock,
            routes=lambda job: self.table.routes(job.model_id, job.path),
            running=self._running.values,
            breaker=self.breaker,
            on_unreachable=self._unreachable,
            on_missing=self._missing,
        )
        self._kept = KeptLanes()
        self._memory = OutcomeMemory()
        self._budget = TokenBudget(limits.max_tokens_per_minute)
        self._window = ResumeWindow(self._give_up)
        self._out_of_time = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all(ErrorCode.AGENT_SHUTDOWN)
        self._window.close()
        await self._tasks.__aexit__(kind, error, trace)

    def reconfigure(self, limits: ExecutorLimits) -> None:
        """These hold for what comes from now on. No job that runs is stopped, however few are allowed."""
        self.limits = self._driver.limits = limits
        self._budget.limit_per_minute = limits.max_tokens_per_minute
        self._log = log.bind()

    @property
    def running(self) -> tuple[RunningJob, ...]:
        return tuple(self._running.values())

    def active_on(self, backend_name: str) -> int:
        return sum(running.route.backend.name == backend_name for running in self._running.values())

    # --- sessions come and go ---------------------------------------------------------------

    def attach(self, channel: Outlet, resumed: Resumed | None) -> None:
        """A session is up. Its coordinator waits for the jobs that `resumed` lists, and for no other.

        1. Such a job goes on.
        2. Any other one ends in silence.
        3. One that it waits for, but that is not here any more, ends in words: its time passed just now.
        """
        self._window.close()
        self._channel = channel
        have = {} if resumed is None else {job.job_id: job.have_seq for job in resumed.jobs}
        for running in self.running:
            if running.is_wanted and running.job.job_id in have:
                self._resume(running.lane, have.pop(running.job.job_id))  # 1
            else:
                self._abandon(running)  # 2
        for kept in self._kept:
            if kept.lane.job_id in have:
                self._resume(kept.lane, have.pop(kept.lane.job_id))
            else:
                self._kept.drop(kept.lane.job_id)
        for job_id in have:
            channel.post(lost(job_id))  # 3
        self._note_rest()

    def detach(self, resume_for_s: float) -> None:
        """The session is over; its coordinator may come back to its jobs for so long, 0 for not at all."""
        self._window.close()
        self._channel = self._nowhere
        if resume_for_s > 0:
            self._window.open(resume_for_s)
            self._note_rest()
        else:
            self._give_up()

    def resumable(self) -> tuple[ResumeJob, ...]:
        """What there is to come back to: jobs that run, and ended ones whose outcome nobody acknowledged."""
        wanted = [(running.lane, running.job.attempt) for running in self.running if running.is_wanted]
        kept = [(each.lane, each.attempt) for each in self._kept]
        return tuple(
            ResumeJob(job_id=lane.job_id, attempt=attempt, next_seq=lane.window.next_seq)
            for lane, attempt in wanted + kept
        )

    @property
    def resume_left_s(self) -> float:
        """How long yet the coordinator may come back; 0 while it is here, or is not waited for."""
        return self._window.left_s

    def _resume(self, lane: Lane, have_seq: int) -> None:
        """Let the lane go on where the coordinator says that it is; if that cannot be, tell only an end."""
        try:
            lane.resume(have_seq)
        except BadAck as bad:
            self._log.warning("resume_impossible", job_id=lane.job_id, problem=str(bad))
            running = self._running.get(lane.job_id)
            if running is None:
                self._kept.drop(lane.job_id)
                self._channel.post(lost(lane.job_id))
                return
            self._stop(running, ErrorCode.SESSION_LOST)
        self._channel.attach(lane)

    def _give_up(self) -> None:
        """Nobody will come back to what is left of the last session."""
        self._window.close()
        for running in self.running:
            self._abandon(running)
        self._kept.clear()
        self._note_rest()

    def _abandon(self, running: RunningJob) -> None:
        running.is_wanted = False
        self._stop(running, ErrorCode.SESSION_LOST)

    # --- decisions: nothing here waits ----------------------------------------------------

    def submit(self, job: Job) -> None:
        """Start the job, or refuse it, or answer it with what is known of it already."""
        running = self._running.get(job.job_id)
        if running is not None:
            self._repeat(running, job)
            return
        known = self._memory.outcome(self._clock(), job)
        if known is not None and is_told(known, self._channel.protocol):
            self._channel.post(known)
            return
        if self._kept.drop(job.job_id) is not None:  # nobody who dispatches it anew will ask for that again
            self._note_rest()
        route = self._admit(job)
        if isinstance(route, Refusal):
            self._refuse(job, route)
            return
        self._start(job, route)

    def refuse_malformed(self, bad: BadFrame) -> None:
        """A job that cannot be read is owed an outcome all the same, once its id is known."""
        if bad.job_id not in self._running:
            self._tell(bad.job_id, Refusal(ErrorCode.BAD_REQUEST, str(bad)))

    def cancel(self, job_id: str) -> None:
        """Nobody wants the answer: nothing of it leaves any more but its outcome.

        1. The job runs: it is stopped.
        2. It has ended, but its outcome has not left.
        3. It is not known to this session, or is over and answered. An answer that may have to be said again,
           after a resume, is by then another one: its chunks are gone.
        """
        running = self._running.get(job_id)
        if running is not None and running.is_wanted:  # 1
            self._stop(running, ErrorCode.CANCELLED)
            return
        lane = self._kept.lane(job_id)
        if lane is None or not lane.recant(cancelled):  # 3
            self._tell(job_id, Refusal(ErrorCode.UNKNOWN_JOB, "no such job runs here"))
        if lane is not None and lane.outcome is not None:
            self._memory.revise(lane.outcome)

    def ack(self, job_id: str, seq: int) -> None:
        """The coordinator has taken a job's chunks up to `seq`, or its outcome.

        Only a job that it was told nothing about is called unknown: its acknowledgements of an outcome
        that it has already acknowledged, of a refusal, or of just that answer are met with silence.
        """
        running = self._running.get(job_id)
        lane = self._kept.lane(job_id) if running is None else running.lane
        if lane is None:
            if job_id not in self._memory:
                self._tell(job_id, Refusal(ErrorCode.UNKNOWN_JOB, "no such job is here"))
            return
        try:
            lane.ack(seq)
        except BadAck as bad:
            self._log.warning("bad_ack", job_id=job_id, problem=str(bad))
        if lane.is_settled:
            self._kept.drop(job_id)
            self._note_rest()

    def stop_all(self, code: ErrorCode) -> None:
        """End what runs and say why."""
        for running in self.running:
            self._stop(running, code)

    async def drain(self, grace_s: float) -> None:
        """Refuse new jobs, let the running ones finish for `grace_s`, then stop the rest.

        That the coordinator has their outcomes is waited for, too: what has left may have left on a
        connection that was broken by then, and only a process that stays can resume.
        """
        self.draining = True
        self._note_rest()
        try:
            async with asyncio.timeout(grace_s):
                await self._at_rest.wait()
        except TimeoutError:
            self.stop_all(ErrorCode.AGENT_SHUTDOWN)
            self._out_of_time = True
            self._note_rest()
            await self._at_rest.wait()

    def _admit(self, job: Job) -> Route | Refusal:
        wait_s = self._budget.wait_s(self._clock())
        now = Situation(self._running.values(), self.draining, wait_s, self.breaker.block, self.paused())
        return admit(job, self.table, self.limits, now)

    def _repeat(self, running: RunningJob, job: Job) -> None:
        """The same job again while it runs: its outcome is the answer, unless this peer will get none.

        1. A later attempt of it.
        2. What runs is stopped for another session, or by a cancel that the dialect ends in silence.
        """
        is_silent = running.stopping is ErrorCode.CANCELLED and self._channel.protocol <= LEGACY_PROTOCOL
        if job.attempt > running.job.attempt or not running.is_wanted or is_silent:
            self._refuse(job, Refusal(ErrorCode.DUPLICATE_JOB, "an earlier attempt of this job still runs"))

    def _refuse(self, job: Job, why: Refusal) -> None:
        self._log.info("job_refused", job_id=job.job_id, model_id=job.model_id, code=why.code.value)
        self._tell(job.job_id, why)
        self._on_refused(why.code)

    def _tell(self, job_id: str, why: Refusal) -> None:
        self._memory.note(job_id)
        self._channel.post(refusal(job_id, why.code, why.message, why.retry_after_ms))

    def _start(self, job: Job, route: Route) -> None:
        channel = self._channel
        lane, patience_s = lane_for(job, channel.protocol, self.limits.backpressure_timeout_s)
        pump = Pump(lane, clock=self._clock, patience_s=patience_s)
        running = RunningJob(job, lane, pump, route, self._clock())
        running.is_acknowledged = channel.protocol > LEGACY_PROTOCOL
        pump.on_stuck = lambda: self._stop(running, ErrorCode.BACKPRESSURE_TIMEOUT)
        self._running[job.job_id] = running
        self._at_rest.clear()
        channel.attach(lane)
        task = running.task = self._tasks.create_task(self._driver.outcome(running))
        task.add_done_callback(lambda task: self._end(running, task))

    def _stop(self, running: RunningJob, code: ErrorCode) -> None:
        running.lane.discard()
        if running.stopping is None and running.task is not None:
            running.stopping = code
            running.task.cancel()

    def _end(self, running: RunningJob, task: asyncio.Task[Outcome]) -> None:
        """The one place where a job leaves `_running`, and the one that hands out its outcome."""
        now_s = self._clock()
        running.pump.close()
        if running.stopping is not None or task.cancelled():
            code = running.stopping or ErrorCode.AGENT_SHUTDOWN
            outcome: Outcome = running.failed(now_s, code, WHY_STOPPED.get(code, "the job was stopped"))
        else:
            outcome = task.result()
        del self._running[running.job.job_id]
        self._memory.keep(now_s, running.job, outcome)
        if running.is_wanted:
            running.lane.finish(outcome)
            if running.is_acknowledged and not running.lane.is_settled:
                self._kept.keep(running.lane, running.job.attempt)
        self._note_rest()
        self._report(EndedJob.of(running, outcome, now_s), now_s)
        running.task = running.reply = None  # as in `Pump.close`

    def _unreachable(self, backend_name: str) -> None:
        self.on_unreachable(backend_name)

    def _missing(self, backend_name: str) -> None:
        self.on_missing(backend_name)

    def _note_rest(self) -> None:
        """Nothing runs, and no outcome waits to be acknowledged, while there is time for that."""
        if self._running or (self._kept and not self._out_of_time):
            self._at_rest.clear()
        else:
            self._at_rest.set()

    def _report(self, ended: EndedJob, now_s: float) -> None:
        usage = ended.usage
        self._budget.spend(now_s, (usage.input_tokens or 0) + (usage.output_tokens or 0))
        self._log.info(
            "job_ended",
            job_id=ended.job_id,
            model_id=ended.model_id,
            backend=ended.backend,
            code=ended.code.value if ended.code else "done",
            http_status=ended.http_status,
            duration_ms=round(ended.latency_s * 1000),
            output_tokens=usage.output_tokens,
        )
        self._on_end(ended)
