"""Any interleaving of jobs, cancels, engines and sessions leaves one outcome a job and no slot taken."""

import asyncio
from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import Call, StreamTruncated
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Frame, Job, JobDone, JobError, Outcome
from tests.fakes.backends import ScriptedBackend, ScriptedReply
from tests.fakes.outlets import RecordingOutlet

MAX_CONCURRENT = 3
JOBS = st.sampled_from([f"j{number}" for number in range(5)])


class ScriptedByHand(ScriptedBackend):
    """Each open call gets a reply that the test feeds step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: list[asyncio.Queue[bytes | Exception | None]] = []

    def open(self, call: Call):  # type: ignore[no-untyped-def]  # noqa: ANN201
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.queues.append(queue)
        self.steps = ()
        opened = super().open(call)
        return _Fed(opened, queue)


class _Fed:
    """Enters and leaves as the scripted backend does, but reads from the queue."""

    def __init__(self, opened, queue) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self._opened = opened
        self._queue = queue

    async def __aenter__(self) -> "ReplyFromQueue":
        reply = await self._opened.__aenter__()
        return ReplyFromQueue(reply, self._queue)

    async def __aexit__(self, *error: object) -> None:
        await self._opened.__aexit__(*error)


class ReplyFromQueue(ScriptedReply):
    """Yields what it is fed; None is the end of the answer."""

    def __init__(self, reply: ScriptedReply, queue: "asyncio.Queue[bytes | Exception | None]") -> None:
        super().__init__([], reply.usage)
        self._queue = queue

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
        while (step := await self._queue.get()) is not None:
            if isinstance(step, Exception):
                raise step
            yield step


class OrderedOutlet(RecordingOutlet):
    """Remembers what came after what, for each job."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[tuple[str, str]] = []

    def post(self, frame: Frame) -> None:
        super().post(frame)
        if isinstance(frame, JobDone | JobError):
            self.story.append((frame.job_id, "posted"))

    async def relay(self, job_id: str, data: bytes) -> None:
        self.story.append((job_id, "chunk"))
        await super().relay(job_id, data)

    def finish(self, outcome: Outcome) -> None:
        super().finish(outcome)
        self.story.append((outcome.job_id, "finished"))


class ExecutorMachine(RuleBasedStateMachine):
    """Plays coordinator and engine at once, by hand, one loop turn at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.backend = ScriptedByHand()
        catalog = Catalog((CatalogEntry(self.backend, self.backend.models, healthy=True),))
        self.outlet = OrderedOutlet()
        self.runs: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.cancelled_at: dict[str, int] = {}
        self.executor = self.loop.run_until_complete(self._enter(RoutingTable(catalog, Policy())))

    async def _enter(self, table: RoutingTable) -> Executor:
        limits = ExecutorLimits(max_concurrent=MAX_CONCURRENT)
        return await Executor(table, limits, clock=self.loop.time).__aenter__()

    def turn(self, turns: int) -> None:
        async def some() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())

    @rule(job_id=JOBS, turns=st.integers(0, 6))
    def a_job_comes(self, job_id: str, turns: int) -> None:
        """A new attempt, whether or not an earlier one still runs."""
        self.attempts[job_id] += 1
        request = msgspec.Raw(b"{}")
        job = Job(job_id=job_id, model_id="m", request=request, attempt=self.attempts[job_id])
        self.loop.run_until_complete(self._submit(job))
        self.turn(turns)

    async def _submit(self, job: Job) -> None:
        before = len(self.executor.running)
        self.executor.submit(job, self.outlet)
        if len(self.executor.running) > before:
            self.runs[job.job_id] += 1
            self.cancelled_at.pop(job.job_id, None)

    @rule(job_id=JOBS, turns=st.integers(0, 6))
    def a_cancel_comes(self, job_id: str, turns: int) -> None:
        """For a job that runs, has ended, or never was."""
        self.loop.run_until_complete(self._cancel(job_id))
        self.turn(turns)

    async def _cancel(self, job_id: str) -> None:
        if any(running.job.job_id == job_id for running in self.executor.running):
            self.cancelled_at[job_id] = len(self.outlet.story)
        self.executor.cancel(job_id, self.outlet)

    @rule(which=st.integers(0, 9), step=st.sampled_from([b"x", None, StreamTruncated("cut"), KeyError()]))
    def the_engine_says(self, which: int, step: bytes | Exception | None) -> None:
        """A chunk, the end, an error, or nonsense, on any connection."""
        if self.backend.queues:
            self.backend.queues[which % len(self.backend.queues)].put_nowait(step)

    @rule(turns=st.integers(1, 8))
    def time_passes(self, turns: int) -> None:
        self.turn(turns)

    @rule()
    def the_session_is_lost(self) -> None:
        for running in self.executor.running:
            self.cancelled_at[running.job.job_id] = len(self.outlet.story)
        self.executor.stop_all(ErrorCode.SESSION_LOST, self.outlet)

    @invariant()
    def never_more_connections_than_slots(self) -> None:
        assert self.backend.open_connections <= len(self.executor.running) <= MAX_CONCURRENT

    @invariant()
    def no_chunk_follows_a_cancel(self) -> None:
        for job_id, position in self.cancelled_at.items():
            assert (job_id, "chunk") not in self.outlet.story[position:]

    def teardown(self) -> None:
        """In the end each run has one outcome, and nothing is left."""
        self.executor.stop_all(ErrorCode.AGENT_SHUTDOWN)
        self.turn(10)
        finished = Counter(job_id for job_id, what in self.outlet.story if what == "finished")
        try:
            assert finished == +self.runs
            assert self.executor.running == ()
            assert self.backend.open_connections == 0
        finally:
            self.loop.run_until_complete(self.executor.__aexit__(None, None, None))
            self.loop.close()


ExecutorMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestExecutor = ExecutorMachine.TestCase
