"""Outlets that keep what a job sends, in order."""

import asyncio

from provider_agent.protocol.frames import Frame, JobDone, JobError, JobStarted, Outcome
from provider_agent.transport.channel import BackpressureTimeout, ChannelClosed


class RecordingOutlet:
    """Takes everything at once.

    Attributes:
        frames: posted and finishing frames, in order.
        chunks: bytes of each job so far, as they were relayed.
        discarded: jobs whose waiting chunks were dropped.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.chunks: dict[str, list[bytes]] = {}
        self.discarded: list[str] = []
        self.unsent: dict[str, Outcome] = {}

    @property
    def outcomes(self) -> list[Outcome]:
        return [frame for frame in self.frames if isinstance(frame, JobDone | JobError)]

    @property
    def started(self) -> list[JobStarted]:
        return [frame for frame in self.frames if isinstance(frame, JobStarted)]

    def take_back(self) -> Outcome:
        """The last outcome, as if it had not left yet."""
        outcome = self.outcomes[-1]
        self.frames.remove(outcome)
        return outcome

    def codes(self) -> list[str]:
        """Each outcome as its error code, or `done`."""
        return [o.error_code if isinstance(o, JobError) else "done" for o in self.outcomes]

    def body(self, job_id: str) -> bytes:
        return b"".join(self.chunks.get(job_id, []))

    def post(self, frame: Frame) -> None:
        self.frames.append(frame)

    async def relay(self, job_id: str, data: bytes) -> None:
        self.chunks.setdefault(job_id, []).append(data)

    def finish(self, outcome: Outcome) -> None:
        self.frames.append(outcome)

    def discard(self, job_id: str) -> Outcome | None:
        self.discarded.append(job_id)
        return self.unsent.pop(job_id, None)


class FullOutlet(RecordingOutlet):
    """Has no room for chunks until `room` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()

    async def relay(self, job_id: str, data: bytes) -> None:
        await self.room.wait()
        await super().relay(job_id, data)


class OutletThatGivesUp(RecordingOutlet):
    """Says that the coordinator did not take the bytes."""

    async def relay(self, job_id: str, data: bytes) -> None:
        raise BackpressureTimeout(job_id, 5.0)


class OutletOfAClosedChannel(RecordingOutlet):
    """The session went away while the engine worked."""

    async def relay(self, job_id: str, data: bytes) -> None:
        raise ChannelClosed(None, "the connection was lost")
