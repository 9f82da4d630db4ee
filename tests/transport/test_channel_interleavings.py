"""Random sequences of all that can happen to the jobs of an agent, against a model of what must arrive."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from provider_agent.protocol.codec import decode
from provider_agent.protocol.frames import (
    BinaryChunk,
    Frame,
    Heartbeat,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Outcome,
    Tokens,
)
from provider_agent.protocol.link import Role
from provider_agent.transport.channel import Channel, ChannelClosed
from provider_agent.transport.lane import MERGED_BYTES, Lane
from tests.fakes.peers import serving_link
from tests.fakes.sockets import StepSocket

PATTERN = bytes(range(251)) * 40_000
JOB_IDS = "abc"
JOBS = st.sampled_from(JOB_IDS)
SIZES = st.sampled_from([1, 50, 9_000, 17_000, 70_000, 200_000])
LARGEST_WRITE = 200_000
WINDOWS = st.sampled_from([1_000, 50_000, 262_144])


class Job:
    """One job: its lane and its source on our side, and what the peer has of it."""

    def __init__(self, job_id: str, stream_id: int, window_bytes: int) -> None:
        self.job_id = job_id
        self.stream_id = stream_id
        self.window_bytes = window_bytes
        self.lane = Lane(job_id, window_bytes=window_bytes, stream_id=stream_id)
        self.lane.on_room = self._on_room
        self.written_bytes = 0
        self.may_write = True
        self.is_writing = False
        self.waits_to_drain = False
        self.outcome: Outcome | None = None
        self.is_discarded = False
        self.was_started = False
        self.has_start = False  # from here on, the peer's side
        self.received_bytes = 0
        self.have_seq = -1
        self.acked_seq = -1
        self.outcomes: list[Outcome] = []

    def _on_room(self) -> None:
        assert not self.is_writing, "called from within a write"
        self.may_write = self.lane.window.has_room
        self.waits_to_drain = self.waits_to_drain and not self.lane.is_drained

    def write(self, size: int) -> None:
        data = PATTERN[self.written_bytes : self.written_bytes + size]
        self.written_bytes += size
        self.is_writing = True
        self.may_write = self.lane.write(data)
        self.is_writing = False

    def arrive(self, frame: Frame) -> None:
        """The peer's side: each frame must be the one that is due."""
        assert not self.outcomes, "something followed the outcome"
        if isinstance(frame, JobStarted):
            assert self.have_seq == -1
            self.has_start = True
        elif isinstance(frame, JobChunk | BinaryChunk):
            assert frame.seq == self.have_seq + 1
            assert self.has_start or not self.was_started
            assert 0 < len(frame.data) <= MERGED_BYTES
            assert PATTERN.startswith(frame.data, self.received_bytes)
            self.have_seq += 1
            self.received_bytes += len(frame.data)
        elif isinstance(frame, JobDone | JobError):
            self._end(frame)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if not self.is_discarded:
            assert isinstance(outcome, JobDone)
            assert outcome.seq == outcome.chunks == self.have_seq + 1
            assert outcome.bytes == self.received_bytes == self.written_bytes


@dataclass
class Connection:
    """One session; the peer has read the first `arrived` of the messages that left."""

    socket: StepSocket
    channel: Channel
    arrived: int = 0
    beats: list[int] = field(default_factory=list)


class Interleavings(RuleBasedStateMachine):
    """Jobs over connections that come and go; the socket takes a message only when told.

    A rule notes what is to happen; `turn` lets all of it happen in one turn of the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.events: list[Callable[[], None]] = []
        self.jobs: dict[str, Job] = {}
        self.ended: list[Job] = []
        self.streams = 0
        self.sessions = 0
        self.beats = 0
        self.connection: Connection | None = None

    @initialize(window_bytes=WINDOWS)
    def begin(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.runner.run(self._connect())
        for job_id in JOB_IDS:
            self._open(job_id)

    def _open(self, job_id: str) -> None:
        self.streams += 1
        self.jobs[job_id] = job = Job(job_id, self.streams, self.window_bytes)
        self._attach(job)

    def _attach(self, job: Job) -> None:
        if self.connection is not None:
            self.connection.channel.attach(job.lane)

    # --- what can happen ------------------------------------------------------------------

    @rule(job_id=JOBS)
    def start(self, job_id: str) -> None:
        self.events.append(lambda: self._start(self.jobs[job_id]))

    def _start(self, job: Job) -> None:
        if not (job.was_started or job.written_bytes or job.outcome or job.is_discarded):
            job.was_started = True
            started = {"backend": "b", "upstream_model": "m", "http_status": 200, "content_type": "t"}
            job.lane.start(JobStarted(job_id=job.job_id, **started))  # type: ignore[arg-type]

    @rule(job_id=JOBS, size=SIZES)
    def write(self, job_id: str, size: int) -> None:
        self.events.append(lambda: self._write(self.jobs[job_id], size))

    def _write(self, job: Job, size: int) -> None:
        if job.may_write and job.outcome is None and not job.is_discarded:
            job.write(size)

    @rule(job_id=JOBS)
    def finish(self, job_id: str) -> None:
        self.events.append(lambda: self._finish(self.jobs[job_id]))

    def _finish(self, job: Job) -> None:
        if job.outcome is None and not job.is_discarded:
            job.outcome = JobDone(job_id=job.job_id, tokens=Tokens(), duration_ms=1)
            job.lane.finish(job.outcome)

    @rule(job_id=JOBS)
    def cancel(self, job_id: str) -> None:
        """As the executor does it: drop what waits, and end the job unless its outcome has left."""
        self.events.append(lambda: self._cancel(self.jobs[job_id]))

    def _cancel(self, job: Job) -> None:
        had_outcome = job.outcome is not None
        unsent = job.lane.discard()
        made_seq = job.lane.window.next_seq
        if unsent is None and had_outcome:
            return
        job.is_discarded = True
        assert not job.lane.window.can_send
        job.outcome = JobError(job_id=job.job_id, error_code="cancelled", message="m")
        job.lane.finish(job.outcome)
        assert job.lane.window.next_seq == made_seq

    @rule()
    def beat(self) -> None:
        self.events.append(self._beat)

    def _beat(self) -> None:
        if self.connection is not None:
            self.beats += 1
            self.connection.beats.append(self.beats)
            self.connection.channel.post(Heartbeat(queue_depth=self.beats))

    @rule(messages=st.integers(1, 6))
    def room(self, messages: int) -> None:
        self.events.append(lambda: self._room(messages))

    def _room(self, messages: int) -> None:
        if self.connection is not None:
            self.connection.socket.step(messages)

    @rule(job_id=JOBS, share=st.floats(0, 1))
    def acknowledge(self, job_id: str, share: float) -> None:
        self.events.append(lambda: self._acknowledge(self.jobs[job_id], share))

    def _acknowledge(self, job: Job, share: float) -> None:
        """The consumer has taken some of what arrived; an outcome is acknowledged as soon as it is here."""
        if self.connection is None:
            return
        if job.outcomes:
            self._acknowledge_outcome(job)
            return
        seq = job.acked_seq + round((job.have_seq - job.acked_seq) * share)
        if seq >= 0:
            job.lane.ack(seq)
            job.acked_seq = seq
            assert not job.lane.is_settled

    def _acknowledge_outcome(self, job: Job) -> None:
        (outcome,) = job.outcomes
        assert not job.lane.is_settled
        job.lane.ack(outcome.seq or 0)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self.ended.append(job)
        self._open(job.job_id)

    @rule(messages=st.integers(1, 10))
    def arrive(self, messages: int) -> None:
        self.events.append(lambda: self._arrive(messages))

    def _arrive(self, messages: int) -> None:
        connection = self.connection
        if connection is None:
            return
        for message in connection.socket.sent[connection.arrived :][:messages]:
            connection.arrived += 1
            frame = decode(message, Role.AGENT)
            if isinstance(frame, Heartbeat):
                assert frame.queue_depth == connection.beats.pop(0)
            else:
                self._job_of(frame).arrive(frame)

    def _job_of(self, frame: Frame) -> Job:
        if isinstance(frame, BinaryChunk):
            (job,) = (job for job in self.jobs.values() if job.stream_id == frame.stream_id)
            return job
        return self.jobs[getattr(frame, "job_id", "")]

    # --- turns, and connections that break ------------------------------------------------

    @rule()
    def turn(self) -> None:
        self.runner.run(self._turn())

    def _happen(self) -> None:
        events, self.events = self.events, []
        for happens in events:
            happens()

    async def _turn(self) -> None:
        self._happen()
        for _ in range(3):
            await asyncio.sleep(0)
        for job in self.jobs.values():
            assert job.is_discarded or not (job.waits_to_drain and job.lane.is_drained), "it was not told"
            assert job.is_discarded or job.may_write == job.lane.window.has_room, "it was not told"
            job.waits_to_drain = not job.lane.is_drained

    @rule()
    def drop(self) -> None:
        """What has not arrived is lost; so are acks, and an outcome may be here without us knowing it."""
        self.runner.run(self._drop())

    async def _drop(self) -> None:
        self._happen()
        if self.connection is None:
            return
        self.connection.socket.drop()
        with pytest.raises(ChannelClosed):
            await self.connection.channel.receive()
        self.connection = None
        assert not any(job.lane.attached for job in self.jobs.values())

    @rule()
    def resume(self) -> None:
        self.runner.run(self._resume())

    async def _resume(self) -> None:
        await self._turn()
        if self.connection is not None:
            return
        await self._connect()
        for job in list(self.jobs.values()):
            if job.outcomes:  # the peer knows no such job any more
                self._forget(job)
                continue
            job.has_start = job.has_start and job.have_seq >= 0
            job.lane.resume(job.have_seq)
            self._attach(job)
        await self._turn()

    async def _connect(self) -> None:
        socket = StepSocket()
        channel = Channel(socket, serving_link(Role.AGENT))
        self.sessions += 1
        channel.binary = self.sessions % 2 == 0
        self.connection = Connection(socket, channel)

    # --- what must hold -------------------------------------------------------------------

    @invariant()
    def no_more_is_unacknowledged_or_kept_than_was_agreed(self) -> None:
        for job in self.jobs.values():
            window = job.lane.window
            assert window.unacked_bytes <= job.window_bytes
            assert window.unacked_bytes + window.waiting_bytes < job.window_bytes + LARGEST_WRITE

    def teardown(self) -> None:
        """Left alone, every job comes to its end."""
        try:
            if self.jobs:
                self.runner.run(self._end())
                for job in self.ended:
                    self._check(job)
        finally:
            self.runner.close()

    async def _end(self) -> None:
        jobs = list(self.jobs.values())
        await self._resume()
        for _ in range(5000):
            if all(job in self.ended for job in jobs):
                return
            for job in jobs:
                if job not in self.ended:
                    self._finish(job)
                    self._acknowledge(job, 1.0)
            self._room(100)
            await self._turn()
            self._arrive(1000)
        pytest.fail("some job does not come to its end")

    def _check(self, job: Job) -> None:
        assert len(job.outcomes) == 1
        assert type(job.outcomes[0]) is type(job.outcome)
        assert job.received_bytes <= job.written_bytes
        if not job.is_discarded:
            assert job.received_bytes == job.written_bytes


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
