"""The way out of an executor, for tests that play the coordinator: a real channel over a socket in memory."""

from contextlib import suppress

from provider_agent.protocol.codec import decode
from provider_agent.protocol.frames import (
    PROTOCOL,
    Frame,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Outcome,
)
from provider_agent.protocol.link import Role
from provider_agent.transport.channel import Channel
from provider_agent.transport.socket import ChannelClosed
from tests.fakes.peers import serving_link
from tests.fakes.sockets import MemorySocket, StuckSocket


class Line:
    """One session's way out, and all that left by it.

    Attributes:
        channel: lent to the executor.
        socket: what it sends on.
    """

    def __init__(self, *, protocol: int = PROTOCOL, socket: MemorySocket | None = None) -> None:
        self.socket = MemorySocket() if socket is None else socket
        self.channel = Channel(self.socket, serving_link(Role.AGENT, protocol))

    @property
    def frames(self) -> list[Frame]:
        """What has left, and what leaves when this turn of the loop ends, in order."""
        return [decode(message, Role.AGENT) for message in (*self.socket.sent, *self.socket._collected)]

    @property
    def outcomes(self) -> list[Outcome]:
        return [frame for frame in self.frames if isinstance(frame, JobDone | JobError)]

    @property
    def started(self) -> list[JobStarted]:
        return [frame for frame in self.frames if isinstance(frame, JobStarted)]

    def codes(self) -> list[str]:
        """Each outcome as its error code, or `done`."""
        return [o.error_code if isinstance(o, JobError) else "done" for o in self.outcomes]

    def chunks(self, job_id: str) -> list[JobChunk]:
        return [frame for frame in self.frames if isinstance(frame, JobChunk) and frame.job_id == job_id]

    def body(self, job_id: str) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks(job_id))

    async def cut(self) -> None:
        """The connection is lost, and the channel learns of it as a session does: when it reads."""
        self.socket.drop()
        with suppress(ChannelClosed):
            await self.channel.receive()


class FullLine(Line):
    """Its socket takes one write, and then nothing until it is released."""

    def __init__(self, *, protocol: int = PROTOCOL) -> None:
        self._stuck = StuckSocket()
        super().__init__(protocol=protocol, socket=self._stuck)

    def release(self) -> None:
        self._stuck.release()
