"""What waits on its way out: control frames, and the chunks of one job; knows no wire."""

import asyncio
from collections import OrderedDict, deque

import msgspec

from provider_agent.protocol.frames import JobDone, Outcome


class Lane:
    """What waits of one job, and what has left of it.

    Attributes:
        chunks: waiting bytes in order; the lane is in the channel's round exactly while there are any.
        waiting_bytes: their sum.
        outcome: the end of the job, once it waits behind the chunks.
        seq: of the next chunk frame, and thereby how many have left.
        sent_bytes: payload that has left.
        room: set when something has left; made when somebody waits for it first.
    """

    __slots__ = ("chunks", "job_id", "outcome", "room", "sent_bytes", "seq", "waiting_bytes")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.chunks: deque[bytes | memoryview] = deque()
        self.waiting_bytes = 0
        self.outcome: Outcome | None = None
        self.seq = 0
        self.sent_bytes = 0
        self.room: asyncio.Event | None = None

    def take(self, limit_bytes: int) -> bytes | memoryview:
        """The next payload: as many chunks as fit, or the head of one that is larger."""
        chunks = self.chunks
        data = chunks.popleft()
        if len(data) > limit_bytes:
            whole = memoryview(data)
            data = whole[:limit_bytes]
            chunks.appendleft(whole[limit_bytes:])
        elif chunks and len(data) + len(chunks[0]) <= limit_bytes:
            data = self._merge(data, limit_bytes)
        self.waiting_bytes -= len(data)
        self.sent_bytes += len(data)
        return data

    def _merge(self, first: bytes | memoryview, limit_bytes: int) -> bytes:
        parts, size = [first], len(first)
        while self.chunks and size + len(self.chunks[0]) <= limit_bytes:
            parts.append(self.chunks.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def made_room(self) -> None:
        if self.room is not None:
            self.room.set()

    def stamp(self, outcome: Outcome) -> Outcome:
        """The outcome with the count of what really left before it."""
        if isinstance(outcome, JobDone):
            return msgspec.structs.replace(outcome, seq=self.seq, chunks=self.seq, bytes=self.sent_bytes)
        return msgspec.structs.replace(outcome, seq=self.seq, bytes_sent=self.sent_bytes)


class ControlLane:
    """Control frames that wait, in the order of entry.

    A job can be withdrawn as long as it waits. It is not counted: a client waits for each job, and
    holds its request in memory anyway; how many frames of all other kinds there are is up to the peer.

    Attributes:
        waiting: the frames, jobs by their id; to be changed by the methods alone.
        waiting_bytes: their sum, but for jobs.
    """

    __slots__ = ("_entered", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self.waiting: OrderedDict[str | int, bytes] = OrderedDict()
        self.waiting_bytes = 0
        self._entered = 0

    def enter(self, message: bytes) -> None:
        self._entered += 1
        self.waiting[self._entered] = message
        self.waiting_bytes += len(message)

    def enter_job(self, job_id: str, message: bytes) -> None:
        """A new attempt takes the place of one that still waits."""
        self.waiting[job_id] = message

    def withdraw(self, job_id: str) -> None:
        self.waiting.pop(job_id, None)

    def take(self) -> bytes:
        key, message = self.waiting.popitem(last=False)
        if isinstance(key, int):
            self.waiting_bytes -= len(message)
        return message

    def clear(self) -> None:
        self.waiting.clear()
        self.waiting_bytes = 0
