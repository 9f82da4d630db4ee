"""Random sequences of everything that can happen to a channel, against a model of what must come out."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from provider_agent.protocol.codec import decode
from provider_agent.protocol.frames import Heartbeat, JobChunk, JobDone, JobError, Outcome, Tokens
from provider_agent.protocol.link import Role
from provider_agent.transport.channel import MERGED_BYTES, Channel, ChannelClosed
from tests.fakes.peers import serving_link
from tests.fakes.sockets import StepSocket

PATTERN = bytes(range(251)) * 8000
JOBS = st.sampled_from(["a", "b", "c"])
SIZES = st.sampled_from([1, 50, 9_000, 17_000, 70_000, 200_000])


@dataclass
class Run:
    """One attempt of a job, as the executor would drive it: one relay at a time, then the outcome."""

    relays: list[tuple[int, asyncio.Task[None]]] = field(default_factory=list)
    discarded: bool = False
    outcome: Outcome | None = None

    @property
    def taken_bytes(self) -> int:
        return sum(
            size
            for size, task in self.relays
            if task.done() and not task.cancelled() and not task.exception()
        )

    @property
    def is_waiting(self) -> bool:
        return bool(self.relays) and not self.relays[-1][1].done()


class Interleavings(RuleBasedStateMachine):
    """Jobs a, b and c over one channel whose socket takes a message only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.run(self._start())
        self.runs: dict[str, list[Run]] = {job_id: [Run()] for job_id in "abc"}
        self.beats = 0

    async def _start(self) -> None:
        self.socket = StepSocket()
        self.channel = Channel(
            self.socket, serving_link(Role.AGENT), lane_bytes=100_000, backpressure_timeout_s=1000
        )
        self.writer = asyncio.create_task(self.channel.write())

    async def _settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    def _open_run(self, job_id: str) -> Run:
        if self.runs[job_id][-1].outcome is not None:
            self.runs[job_id].append(Run())
        return self.runs[job_id][-1]

    def _outcome_waits(self, job_id: str) -> bool:
        lane = self.channel._lanes.get(job_id)
        return lane is not None and lane.outcome is not None

    # --- what can happen ------------------------------------------------------------------

    @rule(job_id=JOBS, size=SIZES)
    def relay(self, job_id: str, size: int) -> None:
        run = self._open_run(job_id)
        if run.is_waiting or run.discarded:
            return
        start = run.taken_bytes
        self.runner.run(self._relay(run, job_id, PATTERN[start : start + size]))

    async def _relay(self, run: Run, job_id: str, data: bytes) -> None:
        run.relays.append((len(data), asyncio.create_task(self.channel.relay(job_id, data))))
        await self._settle()

    @rule(job_id=JOBS)
    def finish(self, job_id: str) -> None:
        run = self._open_run(job_id)
        if run.is_waiting or self._outcome_waits(job_id):
            return
        run.outcome = JobDone(job_id=job_id, tokens=Tokens(), duration_ms=1)
        self.runner.run(self._finish(run.outcome))

    @rule(job_id=JOBS)
    def cancel(self, job_id: str) -> None:
        """As the executor does it: stop the relay, drop what waits, then end the job."""
        run = self.runs[job_id][-1]
        if run.outcome is None and not self._outcome_waits(job_id):
            self.runner.run(self._cancel(run, job_id))

    async def _cancel(self, run: Run, job_id: str) -> None:
        if run.is_waiting:
            run.relays[-1][1].cancel()
        self.channel.discard(job_id)
        run.discarded = True
        await self._settle()
        run.outcome = JobError(job_id=job_id, error_code="cancelled", message="m")
        await self._finish(run.outcome)

    @rule(job_id=JOBS)
    @precondition(lambda self: any(self._outcome_waits(job_id) for job_id in "abc"))
    def cancel_when_over(self, job_id: str) -> None:
        """The outcome still waits behind its chunks: another one takes its place."""
        if not self._outcome_waits(job_id):
            return
        runs = self.runs[job_id]
        run = runs[-1] if runs[-1].outcome is not None else runs[-2]
        self.runner.run(self._replace_outcome(run, job_id))

    async def _replace_outcome(self, run: Run, job_id: str) -> None:
        assert self.channel.discard(job_id) == run.outcome
        run.discarded = True
        run.outcome = JobError(job_id=job_id, error_code="cancelled", message="m")
        await self._finish(run.outcome)

    async def _finish(self, outcome: Outcome) -> None:
        self.channel.finish(outcome)
        await self._settle()

    @rule()
    def beat(self) -> None:
        self.beats += 1
        self.runner.run(self._beat())

    async def _beat(self) -> None:
        self.channel.post(Heartbeat(queue_depth=self.beats))
        await self._settle()

    @rule(messages=st.integers(1, 6))
    def take(self, messages: int) -> None:
        """The socket has room for some more."""
        self.runner.run(self._take(messages))

    async def _take(self, messages: int) -> None:
        self.socket.step(messages)
        await self._settle()

    # --- what must hold -------------------------------------------------------------------

    @invariant()
    def no_lane_waits_for_more_than_its_size_and_one_read(self) -> None:
        for lane in self.channel._lanes.values():
            assert lane.waiting_bytes == sum(len(chunk) for chunk in lane.chunks)
            assert lane.waiting_bytes < 100_000 + 200_000
            assert (lane in self.channel._ready) == bool(lane.chunks)

    def teardown(self) -> None:
        try:
            self.runner.run(self._end())
            self._check()
        finally:
            self.runner.close()

    async def _end(self) -> None:
        self.socket.step(1000)
        for runs in self.runs.values():
            for run in runs:
                await asyncio.gather(*(task for _, task in run.relays), return_exceptions=True)
        await self.channel.close()
        await asyncio.gather(self.writer, return_exceptions=True)
        assert isinstance(self.writer.exception(), ChannelClosed)

    def _check(self) -> None:
        frames = [decode(message, Role.AGENT) for message in self.socket.sent]
        assert [f.queue_depth for f in frames if isinstance(f, Heartbeat)] == list(range(1, self.beats + 1))
        for job_id, runs in self.runs.items():
            ours = [f for f in frames if isinstance(f, JobChunk | JobDone | JobError) and f.job_id == job_id]
            for run in runs:
                ours = self._check_run(run, ours)
            assert ours == []

    def _check_run(
        self, run: Run, frames: list[JobChunk | JobDone | JobError]
    ) -> list[JobChunk | JobDone | JobError]:
        """The frames of one run come first: numbered chunks, every byte, one outcome that adds up."""
        chunks: list[JobChunk] = []
        while frames and isinstance(frames[0], JobChunk):
            chunks.append(frames[0])
            frames = frames[1:]
        data = b"".join(chunk.data for chunk in chunks)
        assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
        assert all(0 < len(chunk.data) <= MERGED_BYTES for chunk in chunks)
        assert data == PATTERN[: len(data)]
        assert len(data) <= run.taken_bytes if run.discarded else len(data) == run.taken_bytes
        if run.outcome is None:
            return frames
        outcome, *rest = frames
        assert type(outcome) is type(run.outcome)
        assert not isinstance(outcome, JobChunk)
        assert outcome.seq == len(chunks)
        assert len(data) == (outcome.bytes if isinstance(outcome, JobDone) else outcome.bytes_sent)
        return rest


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
