"""Sockets in memory, and sockets in trouble; each is what a `Channel` needs."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from provider_agent.transport.socket import ChannelClosed


class MemorySocket:
    """One end of a `socket_pair`: what is flushed here is received there, at once and in order.

    Attributes:
        sent: every message that was flushed, for tests that look at the wire.
        writes: how many messages went with each flush that had any.
        closed: how this end was closed, or None while it is open.
        on_room: see `Socket`.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.writes: list[int] = []
        self.closed: ChannelClosed | None = None
        self.on_room: Callable[[], None] = lambda: None
        self._collected: list[bytes] = []
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

    @property
    def is_full(self) -> bool:
        return False

    def send(self, message: bytes) -> None:
        if self.closed is None:
            self._collected.append(message)

    def flush(self) -> None:
        collected, self._collected = self._collected, []
        if collected and self.closed is None:
            self.writes.append(len(collected))
            self.deliver(collected)

    def deliver(self, messages: list[bytes]) -> None:
        """They reach the wire, and the peer if there is one."""
        self.sent += messages
        if self._peer is not None:
            for message in messages:
                self._peer.feed(message)

    async def close(self, code: int, reason: str) -> None:
        self.flush()
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
    """Is full once anything was flushed into it, until it is released: its peer has stopped reading.

    Attributes:
        stuck: set while messages wait in the socket itself.
    """

    def __init__(self, *, stuck: bool = True) -> None:
        super().__init__()
        self.stuck = asyncio.Event()
        self._flows = not stuck
        self._held: list[bytes] = []

    @property
    def is_full(self) -> bool:
        return bool(self._held)

    def deliver(self, messages: list[bytes]) -> None:
        if self._flows:
            super().deliver(messages)
        else:
            self._held += messages
            self.stuck.set()

    def release(self) -> None:
        self._flows = True
        held, self._held = self._held, []
        self.stuck.clear()
        if held and self.closed is None:
            self.deliver(held)
        self.on_room()

    def hold(self) -> None:
        self._flows = False


class StepSocket(MemorySocket):
    """Has room for one message for each `step`, so that a test decides what happens between two."""

    def __init__(self) -> None:
        super().__init__()
        self._room = 0

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def step(self, messages: int = 1) -> None:
        was_full = self.is_full
        self._room += messages
        if was_full and not self.is_full:
            self.on_room()

    def send(self, message: bytes) -> None:
        self._room -= 1
        super().send(message)


class SocketThatIsFullUntilFlushed(MemorySocket):
    """Takes itself for full as soon as anything is collected, and has room again once it is flushed."""

    @property
    def is_full(self) -> bool:
        return bool(self._collected)


class SocketThatTellsWithinAFlush(MemorySocket):
    """Says that it has room from within `flush`, whether or not it had been full."""

    def flush(self) -> None:
        super().flush()
        self.on_room()


class SocketThatCloses(MemorySocket):
    """Takes so many messages, and is lost at the next one."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._left = after

    def send(self, message: bytes) -> None:
        if self._left == 0:
            self.flush()
            self.drop()
        self._left -= 1
        super().send(message)


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
