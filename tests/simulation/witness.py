"""Reads along on every connection, and breaks the run when an agent says what it may not say any more."""

from provider_agent.protocol.codec import decode
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import (
    AuthOk,
    BinaryChunk,
    Frame,
    Heartbeat,
    Job,
    JobAck,
    JobCancel,
    JobChunk,
    JobDone,
    JobError,
    Resumed,
)
from provider_agent.protocol.link import Role
from provider_agent.protocol.window import WINDOW_BYTES
from tests.simulation.network import Side, Wire
from tests.simulation.story import Story

_ANSWERS_TO_QUESTIONS = frozenset({ErrorCode.UNKNOWN_JOB.value, ErrorCode.DUPLICATE_JOB.value})
_ROLES: dict[Side, Role] = {"agent": Role.AGENT, "coordinator": Role.COORDINATOR}


class Witness:
    """What is said over the wires of one agent."""

    def __init__(self, name: str, story: Story) -> None:
        self._name = name
        self._story = story
        self._job_of_stream: dict[int, str] = {}

    def watch(self, wire: Wire) -> None:
        testimony = _Testimony(self._name, wire, self._story, self._job_of_stream)
        wire.on_carry = testimony.carried
        wire.on_read = testimony.read


class _Testimony:
    """What was said over one wire.

    1. Nothing of a job follows its outcome (I2), and no second outcome (I1).
    2. No chunk of a job follows once its cancel was read (I2).
    3. Chunks are numbered without a gap, and no more of them is on its way than the window allows.
    """

    def __init__(self, name: str, wire: Wire, story: Story, job_of_stream: dict[int, str]) -> None:
        self._name = name
        self._wire = wire
        self._story = story
        self._job_of_stream = job_of_stream
        self._over: set[str] = set()
        self._cancelled: set[str] = set()
        self._next_seq: dict[str, int] = {}
        self._unacked: dict[str, dict[int, int]] = {}

    def carried(self, side: Side, message: bytes) -> None:
        frame = decode(message, _ROLES[side])
        if isinstance(frame, Heartbeat):
            return
        self._story.tell(self._wire.name, "->" if side == "agent" else "<-", _Shown(frame))
        if side == "coordinator":
            self._count(frame)
            return
        match frame:
            case BinaryChunk():
                self._chunk(self._job_of_stream[frame.stream_id], frame.seq, frame.data)
            case JobChunk():
                self._chunk(frame.job_id, frame.seq or 0, frame.data)
            case JobError(error_code=code) if code in _ANSWERS_TO_QUESTIONS:
                pass
            case JobDone() | JobError():
                self._demand(frame.job_id not in self._over, f"a second outcome of {frame.job_id}")  # 1
                self._over.add(frame.job_id)

    def _count(self, frame: Frame) -> None:
        match frame:
            case AuthOk(resumed=Resumed(jobs=jobs, unknown=unknown)):
                self._story.counts["resumed: job"] += len(jobs)
                self._story.counts["resumed: job in the middle"] += sum(job.have_seq >= 0 for job in jobs)
                self._story.counts["resumed: unknown job"] += len(unknown)
            case Job(attempt=attempt):
                self._story.counts["job" if attempt == 1 else "job: again"] += 1
            case JobAck() | JobCancel():
                self._story.counts["ack" if isinstance(frame, JobAck) else "cancel"] += 1

    def _chunk(self, job_id: str, seq: int, data: bytes) -> None:
        self._demand(job_id not in self._over, f"chunk {seq} of {job_id} after its outcome")  # 1
        self._demand(job_id not in self._cancelled, f"chunk {seq} of {job_id} after its cancel")  # 2
        expected = self._next_seq.setdefault(job_id, seq)
        self._demand(seq == expected, f"chunk {seq} of {job_id} where {expected} was due")  # 3
        self._next_seq[job_id] = seq + 1
        self._story.counts["chunk"] += 1
        unacked = self._unacked.setdefault(job_id, {})
        unacked[seq] = len(data)
        self._demand(sum(unacked.values()) <= WINDOW_BYTES, f"{job_id} goes beyond its window")

    def read(self, side: Side, message: bytes) -> None:
        """What a side has read, and so knows."""
        if side == "coordinator":
            return
        match decode(message, Role.COORDINATOR):
            case Job() as job:
                self._over.discard(job.job_id)
                self._cancelled.discard(job.job_id)
                self._next_seq.pop(job.job_id, None)
                self._unacked.pop(job.job_id, None)
                if job.stream_id is not None:
                    self._job_of_stream[job.stream_id] = job.job_id
            case JobCancel(job_id=job_id):
                self._cancelled.add(job_id)
            case JobAck(job_id=job_id, seq=seq):
                unacked = self._unacked.get(job_id, {})
                for acked in [each for each in unacked if each <= seq]:
                    del unacked[acked]

    def _demand(self, promise: bool, sentence: str) -> None:
        self._story.demand(promise, f"{self._name} sends {sentence} on {self._wire.name}")


class _Shown:
    """A frame in a story: without what is long in it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __str__(self) -> str:
        frame = self._frame
        match frame:
            case BinaryChunk():
                return f"chunk of stream {frame.stream_id} seq {frame.seq}, {len(frame.data)} bytes"
            case Job():
                return f"job {frame.job_id} attempt {frame.attempt} stream {frame.stream_id}"
            case _:
                return repr(frame)
