"""Connections in memory that delay, stall, break and go silent, as networks do; knows no frame."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal

from provider_agent.transport.socket import ChannelClosed

HIGH_WATER_BYTES = 64 * 1024
SILENCE_S = 10.0
"""How long a side bears with a peer that is not heard any more; liveness has tests of its own."""

Side = Literal["agent", "coordinator"]


class End:
    """One end of a wire: a `Socket`."""

    def __init__(self, wire: "Wire", side: Side) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self.closed: ChannelClosed | None = None
        self._wire = wire
        self._side = side
        self._loop = asyncio.get_running_loop()
        self._collected: list[bytes] = []
        self._inbox: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<End {self._side} of {self._wire.name}, {self.closed or 'open'}>"

    # --- as a Socket ----------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return self._wire.in_flight_bytes[self._side] >= HIGH_WATER_BYTES

    async def receive(self) -> bytes:
        while not self._inbox:
            if self.closed is not None:
                raise self.closed.again()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        self._wire.on_read(self._side, message)
        return message

    def send(self, message: bytes) -> None:
        if self.closed is None:
            self._collected.append(bytes(message))

    def flush(self) -> None:
        messages, self._collected = self._collected, []
        for message in messages:
            self._wire.carry(self._side, message)

    async def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.flush()
            self._wire.say_goodbye(self._side, code, reason)
            self.end(ChannelClosed(code, reason, by_us=True))

    def abort(self, closed: ChannelClosed) -> None:
        if self.closed is None:
            self.end(closed)
            self._wire.reset(self._side)

    # --- what the wire does to it ---------------------------------------------------------

    def take(self, message: bytes) -> None:
        if self.closed is None:
            self._inbox.append(message)
            self._wake()

    def end(self, closed: ChannelClosed) -> None:
        """What has arrived is still read; then comes the end."""
        if self.closed is None:
            self.closed = closed
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Wire:
    """One connection. Messages of one direction keep their order, and none comes twice.

    Attributes:
        in_flight_bytes: what each side has sent that has not arrived.
        on_carry, on_read: told of each message that a side sends, or reads, for those who watch.
    """

    def __init__(self, name: str, latency_s: Callable[[], float]) -> None:
        self.name = name
        self.ends: dict[Side, End] = {"agent": End(self, "agent"), "coordinator": End(self, "coordinator")}
        self.in_flight_bytes: dict[Side, int] = {"agent": 0, "coordinator": 0}
        self.on_carry: Callable[[Side, bytes], None] = lambda _side, _message: None
        self.on_read: Callable[[Side, bytes], None] = lambda _side, _message: None
        self._latency_s = latency_s
        self._loop = asyncio.get_running_loop()
        self._arrives_s: dict[Side, float] = {"agent": 0.0, "coordinator": 0.0}
        self._stalled_until_s: dict[Side, float] = {"agent": 0.0, "coordinator": 0.0}
        self._is_silent = False

    @property
    def is_open(self) -> bool:
        return not self._is_silent and all(end.closed is None for end in self.ends.values())

    # --- faults -----------------------------------------------------------------------------

    def cut(self) -> None:
        """Both sides learn of it now; what is on its way is lost."""
        for end in self.ends.values():
            end.end(ChannelClosed(None, "connection reset"))

    def cut_for(self, side: Side, other_learns_after_s: float) -> None:
        """One side learns now, the other later; what that one has sent still arrives there till then."""
        other = self._peer(side)
        self.ends[side].end(ChannelClosed(None, "connection reset"))
        self._loop.call_later(other_learns_after_s, self.ends[other].end, ChannelClosed(None, "reset late"))

    def go_silent(self) -> None:
        """Nothing arrives any more, and nobody is told: each side finds out by itself."""
        self._is_silent = True
        silent = ChannelClosed(None, f"the peer was silent for {SILENCE_S:g} s", by_us=True)
        for end in self.ends.values():
            self._loop.call_later(SILENCE_S, end.end, silent)

    def stall(self, side: Side, for_s: float) -> None:
        """What this side sends is not taken for so long."""
        self._stalled_until_s[side] = self._loop.time() + for_s

    # --- what the ends ask ------------------------------------------------------------------

    def carry(self, side: Side, message: bytes) -> None:
        self.on_carry(side, message)
        self.in_flight_bytes[side] += len(message)
        self._loop.call_at(self._due_s(side), self._arrive, side, message)

    def say_goodbye(self, side: Side, code: int, reason: str) -> None:
        """The close frame is behind all that was sent."""
        self._loop.call_at(self._due_s(side), self._tell, side, ChannelClosed(code, reason))

    def reset(self, side: Side) -> None:
        self._loop.call_later(self._latency_s(), self._tell, side, ChannelClosed(None, "connection reset"))

    def _due_s(self, side: Side) -> float:
        """Later than all that was sent before: timers of one moment fire in no order."""
        after_s = self._arrives_s[side] + 1e-6
        due_s = max(self._loop.time() + self._latency_s(), after_s, self._stalled_until_s[side])
        self._arrives_s[side] = due_s
        return due_s

    def _arrive(self, side: Side, message: bytes) -> None:
        was_full = self.ends[side].is_full
        self.in_flight_bytes[side] -= len(message)
        if not self._is_silent:
            self.ends[self._peer(side)].take(message)
        if was_full and not self.ends[side].is_full and self.ends[side].closed is None:
            self.ends[side].on_room()

    def _tell(self, side: Side, closed: ChannelClosed) -> None:
        if not self._is_silent:
            self.ends[self._peer(side)].end(closed)

    def _peer(self, side: Side) -> Side:
        return "coordinator" if side == "agent" else "agent"
