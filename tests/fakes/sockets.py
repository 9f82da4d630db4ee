"""Sockets in memory, and sockets in trouble; each is what a `Channel` needs."""

import asyncio
from collections import deque
from typing import TypeVar

from provider_agent.transport.channel import ChannelClosed


class MemorySocket:
    """One end of a `socket_pair`: what is sent here is received there, at once and in order.

    Attributes:
        sent: every message that was taken, for tests that look at the wire.
        closed: how this end was closed, or None while it is open.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: ChannelClosed | None = None
        self._peer: MemorySocket | None = None
        self._inbox: deque[bytes] = deque()
        self._news = asyncio.Event()

    def connect(self, peer: "MemorySocket") -> None:
        self._peer = peer

    async def receive(self) -> bytes:
        while not self._inbox:
            if self.closed is not None:
                raise self.closed.again()
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    async def send(self, message: bytes) -> None:
        if self.closed is not None:
            raise self.closed.again()
        self.sent.append(message)
        if self._peer is not None:
            self._peer.feed(message)

    async def close(self, code: int, reason: str) -> None:
        self.end(ChannelClosed(code, reason, by_us=True))
        if self._peer is not None:
            self._peer.end(ChannelClosed(code, reason))

    def abort(self, closed: ChannelClosed) -> None:
        self.end(closed)
        if self._peer is not None:
            self._peer.end(ChannelClosed(None, "aborted by the peer"))

    def feed(self, message: bytes) -> None:
        """Let this end receive a message, as if the peer had sent it."""
        self._inbox.append(message)
        self._news.set()

    def end(self, closed: ChannelClosed) -> None:
        """Let this end learn that the conversation is over; what was fed before is still received."""
        if self.closed is None:
            self.closed = closed
            self._news.set()

    def drop(self) -> None:
        """Cut the connection for both ends, without a close frame."""
        for each in (self, self._peer):
            if each is not None:
                each.end(ChannelClosed(None, "cut by the test"))


class StuckSocket(MemorySocket):
    """Takes nothing until it is released, as a peer does that has stopped reading.

    Attributes:
        stuck: set while a message waits to be taken.
    """

    def __init__(self, *, stuck: bool = True) -> None:
        super().__init__()
        self.stuck = asyncio.Event()
        self._flows = asyncio.Event()
        if not stuck:
            self._flows.set()

    def release(self) -> None:
        self._flows.set()

    def hold(self) -> None:
        self._flows.clear()

    async def send(self, message: bytes) -> None:
        if not self._flows.is_set():
            self.stuck.set()
            await self._flows.wait()
            self.stuck.clear()
        await super().send(message)

    def end(self, closed: ChannelClosed) -> None:
        super().end(closed)
        self._flows.set()


class SlowSocket(MemorySocket):
    """Takes every message, but each takes its time, as on a thin line."""

    def __init__(self, *, takes_s: float) -> None:
        super().__init__()
        self._takes_s = takes_s

    async def send(self, message: bytes) -> None:
        await asyncio.sleep(self._takes_s)
        await super().send(message)


class StepSocket(MemorySocket):
    """Takes one message for each `step`, so that a test decides what happens between two."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = asyncio.Semaphore(0)

    def step(self, messages: int = 1) -> None:
        for _ in range(messages):
            self._steps.release()

    async def send(self, message: bytes) -> None:
        await self._steps.acquire()
        await super().send(message)

    def end(self, closed: ChannelClosed) -> None:
        super().end(closed)
        self.step(1000)


class SocketThatCloses(MemorySocket):
    """Takes so many messages, and is lost at the next one."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._left = after

    async def send(self, message: bytes) -> None:
        if self._left == 0:
            self.drop()
        self._left -= 1
        await super().send(message)


One = TypeVar("One", bound=MemorySocket)
Other = TypeVar("Other", bound=MemorySocket)


def join(one: One, other: Other) -> tuple[One, Other]:
    """Two ends of one connection."""
    one.connect(other)
    other.connect(one)
    return one, other


def socket_pair() -> tuple[MemorySocket, MemorySocket]:
    """Two ends of one connection without trouble."""
    return join(MemorySocket(), MemorySocket())
