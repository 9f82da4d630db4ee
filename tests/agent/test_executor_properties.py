"""Any interleaving of jobs, cancels, acks, engines and lost sessions: one outcome a job, every byte once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import Call, StreamTruncated, Usage
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.codec import decode
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import (
    Job,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Outcome,
    Resumed,
    ResumedJob,
)
from provider_agent.protocol.link import Role
from tests.fakes.backends import ScriptedBackend, ScriptedReply
from tests.fakes.outlets import Line
from tests.fakes.sockets import StuckSocket
from tests.simulation.loop import VirtualLoop

MAX_CONCURRENT = 3
WINDOW_BYTES = 1000
RESUME_S = 60.0
IDS = tuple(f"j{number}" for number in range(4))
WHICH = st.integers(0, 5)
"""Of those that a step is possible with."""
TURNS = st.integers(0, 6)
T = TypeVar("T")

Step = bytes | Exception | None
"""What an engine does next; None is the end of its answer."""


class ReplyByHand(ScriptedReply):
    """Plays what it is fed, and remembers what it gave."""

    def __init__(self) -> None:
        super().__init__([], Usage(3, 5))
        self.queue: asyncio.Queue[Step] = asyncio.Queue()
        self.given = b""

    async def relay(self, take: Callable[[bytes], None]) -> None:
        while True:
            await self._goes_on.wait()
            step = await self.queue.get()
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            self.given += step
            take(step)


class BackendByHand(ScriptedBackend):
    """Each call gets a reply that the test feeds step by step; they are found by the call's body."""

    def __init__(self) -> None:
        super().__init__()
        self.by_body: dict[bytes, ReplyByHand] = {}

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[ReplyByHand]:
        async with super().open(call):
            yield self.by_body.setdefault(call.body, ReplyByHand())


@dataclass
class Dispatch:
    """One job as the coordinator sees it.

    Attributes:
        got: what it has read of the answer.
        chunks: how many chunks that were.
        was_taken_on: the agent has not refused it.
        outcome: how it ended; a refusal, too.
    """

    job_id: str
    attempt: int
    got: bytes = b""
    chunks: int = 0
    was_taken_on: bool = False
    outcome: Outcome | None = None
    is_acked: bool = False

    @property
    def body(self) -> bytes:
        return b'{"%s":%d}' % (self.job_id.encode(), self.attempt)

    def read(self, frame: JobStarted | JobChunk | JobDone | JobError) -> None:
        assert self.outcome is None, f"{frame} follows {self.outcome}"
        if isinstance(frame, JobChunk):
            assert frame.seq == self.chunks, "out of order, missing, or twice"
            self.got += frame.data
            self.chunks += 1
        elif isinstance(frame, JobDone | JobError):
            self.outcome = frame


@dataclass
class Conversation:
    """A session, read as far as the test says."""

    line: Line = field(default_factory=lambda: Line(socket=StuckSocket(stuck=False)))
    read: int = 0

    @property
    def socket(self) -> StuckSocket:
        assert isinstance(self.line.socket, StuckSocket)
        return self.line.socket


class ExecutorMachine(RuleBasedStateMachine):
    """Plays coordinator and engine at once, by hand, one loop turn at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.backend = BackendByHand()
        self.dispatches: dict[str, Dispatch] = {}
        self.call: Conversation | None = Conversation()
        self.no_chunk_after: dict[str, int] = {}
        self.ever_cancelled: set[str] = set()
        self.fed = 0
        self.executor = self.loop.run_until_complete(self._begin())

    async def _begin(self) -> Executor:
        catalog = Catalog((CatalogEntry(self.backend, self.backend.models, healthy=True),))
        limits = ExecutorLimits(max_concurrent=MAX_CONCURRENT)
        executor = Executor(RoutingTable(catalog, Policy()), limits, clock=self.loop.time)
        assert self.call is not None
        executor.attach(self.call.line.channel, None)
        return await executor.__aenter__()

    def do(self, step: Callable[[], T], turns: int = 0) -> T:
        """Take a step within the loop, and let so many turns pass."""

        async def within() -> T:
            result = step()
            for _ in range(turns):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(within())

    def sleep(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @property
    def waited_for(self) -> dict[str, Dispatch]:
        """The jobs whose outcome the coordinator has not read."""
        return {job_id: known for job_id, known in self.dispatches.items() if known.outcome is None}

    # --- the coordinator ------------------------------------------------------------------

    @rule(which=WHICH, turns=TURNS)
    @precondition(lambda self: self.call)
    def a_job_is_dispatched(self, which: int, turns: int) -> None:
        """A first or a next attempt; a coordinator that keeps to the protocol has heard of the end before."""
        possible = [job_id for job_id in IDS if job_id not in self.waited_for]
        if not possible:
            return
        job_id = possible[which % len(possible)]
        before = self.dispatches.get(job_id)
        made = Dispatch(job_id, 1 if before is None else before.attempt + 1)
        self.dispatches[job_id] = made
        self.no_chunk_after.pop(job_id, None)
        self.do(lambda: self._submit(made), turns)

    def _submit(self, made: Dispatch) -> None:
        self.executor.submit(self._job(made))
        made.was_taken_on = any(bytes(running.job.request) == made.body for running in self.executor.running)

    @rule(which=WHICH, turns=TURNS)
    @precondition(lambda self: self.call and self.executor.running)
    def a_job_is_dispatched_once_more(self, which: int, turns: int) -> None:
        """The same attempt again while it runs: nothing yet is the answer (I4)."""
        running = self.executor.running[which % len(self.executor.running)]
        if running.is_wanted:
            self.do(lambda: self.executor.submit(running.job), turns)

    def _job(self, dispatch: Dispatch) -> Job:
        return Job(
            job_id=dispatch.job_id,
            model_id="m",
            request=msgspec.Raw(dispatch.body),
            attempt=dispatch.attempt,
            window_bytes=WINDOW_BYTES,
        )

    @rule(which=WHICH, turns=TURNS)
    @precondition(lambda self: self.call and self.waited_for)
    def a_job_is_cancelled(self, which: int, turns: int) -> None:
        """Whether it runs, waits to be heard of, or has ended; once or twice, but not after its outcome."""
        known = list(self.waited_for.values())[which % len(self.waited_for)]
        self.do(lambda: self._cancel(known.job_id), turns)

    def _cancel(self, job_id: str) -> None:
        assert self.call is not None
        self.executor.cancel(job_id)
        self.ever_cancelled.add(job_id)
        self.no_chunk_after[job_id] = self._handed_over(self.call)

    def _handed_over(self, call: Conversation) -> int:
        return len(call.socket.sent) + len(call.socket._held) + len(call.socket._collected)

    @rule(messages=st.integers(1, 8))
    @precondition(lambda self: self.call)
    def it_reads(self, messages: int) -> None:
        """So many messages, if there are as many."""
        self._read(messages)

    def _read(self, messages: int) -> int:
        assert self.call is not None
        new = self.call.socket.sent[self.call.read :][:messages]
        self.call.read += len(new)
        for message in new:
            frame = decode(message, Role.AGENT)
            assert isinstance(frame, JobStarted | JobChunk | JobDone | JobError), frame
            if isinstance(frame, JobError) and frame.error_code == ErrorCode.UNKNOWN_JOB.value:
                # a cancel crossed the outcome, or an acknowledgement came when the job was long forgotten
                is_over = self.dispatches[frame.job_id].outcome is not None
                assert is_over or frame.job_id in self.ever_cancelled
            else:
                self.dispatches[frame.job_id].read(frame)
        return len(new)

    @rule(which=WHICH, back=st.integers(0, 4), turns=TURNS)
    @precondition(lambda self: self.call and self.dispatches)
    def it_acknowledges(self, which: int, back: int, turns: int) -> None:
        """Anything that it has read, in steps of any size, late or twice; an outcome with its own number."""
        self._acknowledge(list(self.dispatches.values())[which % len(self.dispatches)], back, turns)

    def _acknowledge(self, known: Dispatch, back: int, turns: int = 0) -> None:
        seq = known.chunks - 1 - back
        if known.outcome is not None and back == 0:
            if known.outcome.seq is None:
                return
            known.is_acked = True
            seq = known.outcome.seq
        if seq >= 0:
            self.do(lambda: self.executor.ack(known.job_id, seq), turns)

    # --- the engine -----------------------------------------------------------------------

    @rule(which=WHICH, size=st.sampled_from([1, 400, 1200, 5000]), turns=TURNS)
    @precondition(lambda self: self.executor.running)
    def the_engine_speaks(self, which: int, size: int, turns: int) -> None:
        """Bytes that tell where they belong, also after a cancel."""
        self.fed += 1
        self._feed(which, (b"%d." % self.fed * size)[:size], turns)

    @rule(which=WHICH, end=st.sampled_from([None, None, StreamTruncated("cut"), KeyError("x")]), turns=TURNS)
    @precondition(lambda self: self.executor.running)
    def the_engine_ends(self, which: int, end: Exception | None, turns: int) -> None:
        """Whole, broken, or as a defect of ours."""
        self._feed(which, end, turns)

    def _feed(self, which: int, step: Step, turns: int = 0) -> None:
        reply = self._reply(self.executor.running[which % len(self.executor.running)])
        self.do(lambda: reply.queue.put_nowait(step), turns)

    def _reply(self, running: RunningJob) -> ReplyByHand:
        """What the job reads, or will read once its task has come so far."""
        return self.backend.by_body.setdefault(bytes(running.job.request), ReplyByHand())

    # --- the line -------------------------------------------------------------------------

    @rule(turns=st.integers(1, 8))
    def turns_pass(self, turns: int) -> None:
        self.do(lambda: None, turns)

    @rule(is_stuck=st.booleans())
    @precondition(lambda self: self.call)
    def the_socket_gets_stuck_or_free(self, is_stuck: bool) -> None:
        """For longer than a turn, and not for the patience of a job."""
        assert self.call is not None
        self.do(self.call.socket.hold if is_stuck else self.call.socket.release, 1)

    @rule(resume_s=st.sampled_from([0.0, RESUME_S, RESUME_S, RESUME_S]))
    @precondition(lambda self: self.call)
    def the_session_is_lost(self, resume_s: float) -> None:
        """What was not read is lost; with it perhaps every reason to come back."""
        assert self.call is not None
        self.loop.run_until_complete(self.call.line.cut())
        self.call = None
        self.no_chunk_after.clear()
        self.do(lambda: self.executor.detach(resume_s))
        if not resume_s:
            self._give_up(self.dispatches)

    @rule(forgotten=st.sets(st.sampled_from(IDS), max_size=2), turns=TURNS)
    @precondition(lambda self: not self.call)
    def the_next_session_is_up(self, forgotten: set[str], turns: int) -> None:
        """The coordinator goes on with what it knows; some of it may have gone meanwhile."""
        resumable = self.executor.resumable()
        listed = {each.job_id: each for each in resumable}
        assert len(listed) == len(resumable)
        assert all(each.next_seq >= self.dispatches[each.job_id].chunks for each in listed.values())
        assert all(job_id in listed for job_id, known in self.waited_for.items() if known.was_taken_on)
        kept = [
            known
            for job_id, known in self.dispatches.items()
            if job_id in listed and job_id not in forgotten and known.attempt == listed[job_id].attempt
        ]
        resumed = Resumed(
            jobs=tuple(ResumedJob(job_id=known.job_id, have_seq=known.chunks - 1) for known in kept),
            unknown=tuple(listed.keys() & forgotten),
        )
        for known in kept:
            self._reopen(known)
        self._give_up(self.dispatches.keys() - {known.job_id for known in kept})
        self.call = Conversation()
        self.do(lambda: self.executor.attach(self.call.line.channel, resumed), turns)  # type: ignore[union-attr]

    def _reopen(self, known: Dispatch) -> None:
        """An outcome whose acknowledgement was lost comes again."""
        if not known.is_acked:
            known.outcome = None

    @rule()
    @precondition(lambda self: not self.call)
    def nobody_comes_back_in_time(self) -> None:
        """The resume window passes."""
        self.sleep(RESUME_S + 1)
        self._give_up(self.dispatches)
        assert self.executor.resumable() == ()
        assert self.executor.resume_left_s == 0

    def _give_up(self, job_ids: "set[str] | dict[str, Dispatch]") -> None:
        """The coordinator waits for these no more; to it they ended as lost."""
        for job_id in job_ids:
            known = self.dispatches[job_id]
            known.outcome = known.outcome or JobError(
                job_id=job_id, error_code=ErrorCode.SESSION_LOST.value, message=""
            )

    # --- what holds -----------------------------------------------------------------------

    @invariant()
    def never_more_connections_than_slots(self) -> None:
        """I3."""
        assert self.backend.open_connections <= len(self.executor.running) <= MAX_CONCURRENT

    @invariant()
    def no_chunk_follows_a_cancel(self) -> None:
        """I2: none is handed to the socket once the cancel was read."""
        if self.call is None:
            return
        socket = self.call.socket
        handed_over = [*socket.sent, *socket._held, *socket._collected]
        for job_id, position in self.no_chunk_after.items():
            frames = [decode(message, Role.AGENT) for message in handed_over[position:]]
            assert not any(isinstance(frame, JobChunk) and frame.job_id == job_id for frame in frames)

    @invariant()
    def a_whole_answer_is_what_the_engine_gave(self) -> None:
        """Byte by byte, and its numbers are true."""
        for known in self.dispatches.values():
            if isinstance(known.outcome, JobDone):
                assert known.got == self.backend.by_body[known.body].given
                assert (known.outcome.chunks, known.outcome.bytes) == (known.chunks, len(known.got))

    @invariant()
    def a_job_holds_no_more_than_its_window(self) -> None:
        """And what the engine had sent when it was paused."""
        for running in self.executor.running:
            window = running.lane.window
            assert window.unacked_bytes <= WINDOW_BYTES
            assert window.unacked_bytes + window.waiting_bytes < WINDOW_BYTES + 5000

    def teardown(self) -> None:
        """In the end each job that was not given up has one outcome, and nothing is left."""
        try:
            if self.call is None:
                self.the_next_session_is_up(set(), 1)
            self._finish()
            for known in self.dispatches.values():
                assert known.outcome is not None, known
            assert self.executor.running == ()
            assert self.executor.resumable() == ()
            assert self.backend.open_connections == 0
        finally:
            self.loop.run_until_complete(self.executor.__aexit__(None, None, None))
            asyncio.set_event_loop(None)
            self.loop.close()

    def _finish(self) -> None:
        """Every engine ends; the coordinator reads and acknowledges until nothing is to be read."""
        assert self.call is not None
        self.do(self.call.socket.release, 1)
        for running in self.executor.running:
            self._reply(running).queue.put_nowait(None)
        quiet = 0
        while quiet < 3:
            self.do(lambda: None, 8)
            news = self._read(1000)
            for known in self.dispatches.values():
                self._acknowledge(known, 0)
            quiet = 0 if news else quiet + 1


ExecutorMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestExecutor = ExecutorMachine.TestCase
