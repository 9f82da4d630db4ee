"""Passes the bytes of one answer to its lane, and holds the engine back while the lane is full; knows no job.

Bytes go from the engine's socket callback straight into the lane: no task, no queue, no future for
each. Only a lane that is full, or has not let everything go at the end, makes somebody wait. Whoever
waits so is watched: the peer has to take something now and then.
"""

import asyncio
from collections.abc import Callable

from provider_agent.backends.base import Reply
from provider_agent.transport.lane import Lane

LOOKS = 10
"""How often the peer is looked at within its time. Looks are counted, and not the time between them, so
that a loop of ours that stood still does not accuse a peer whose acknowledgements it has yet to read."""


class Pump:
    """Between one answer and its lane.

    Attributes:
        first_byte_s: when the first byte came; None before.
        relayed_bytes: how many came.
        stalled_s: how long bytes waited for the peer, in waits that are over.
        on_begin: called before the first byte is passed on.
        on_stuck: called when the peer took nothing of the job for `patience_s`, though it was there.
    """

    __slots__ = (
        "_clock",
        "_drained",
        "_lane",
        "_look",
        "_looks_in_vain",
        "_patience_s",
        "_reply",
        "_taken_bytes",
        "_waiting_since_s",
        "_write",
        "first_byte_s",
        "on_begin",
        "on_stuck",
        "relayed_bytes",
        "stalled_s",
    )

    def __init__(self, lane: Lane, *, clock: Callable[[], float], patience_s: float) -> None:
        self.first_byte_s: float | None = None
        self.relayed_bytes = 0
        self.stalled_s = 0.0
        self._lane = lane
        self._write = lane.write
        self._clock = clock
        self._patience_s = patience_s
        self.on_begin: Callable[[], None] = _nobody_minds
        self.on_stuck: Callable[[], None] = _nobody_minds
        self._reply: Reply | None = None
        self._drained: asyncio.Future[None] | None = None
        self._waiting_since_s: float | None = None
        self._look: asyncio.TimerHandle | None = None
        self._looks_in_vain = 0
        self._taken_bytes = 0
        lane.on_room = self._go_on

    async def relay(self, reply: Reply) -> None:
        """Pass on the whole answer. Raises BackendError when it is not whole."""
        self._reply = reply
        try:
            await reply.relay(self.take)
        finally:
            self._reply = None

    def take(self, data: bytes) -> None:
        """The hot path: every byte of an answer comes by here."""
        if self.first_byte_s is None:
            self.first_byte_s = self._clock()
            self.on_begin()
        self.relayed_bytes += len(data)
        if not self._write(data) and self._waiting_since_s is None:
            self._begin_wait()
            if self._reply is not None:
                self._reply.pause()

    async def drained(self) -> None:
        """Return once every byte has left. What only waits for the end of this turn is not watched."""
        if not self._lane.is_drained and self._waiting_since_s is None:
            await asyncio.sleep(0)
        if self._lane.is_drained:
            self._end_wait()
            return
        if self._waiting_since_s is None:
            self._begin_wait()
        self._drained = asyncio.get_running_loop().create_future()
        await self._drained

    def close(self) -> None:
        """The job is over: lane and job let go of each other, so that memory is free at once."""
        self._end_wait()
        self._reply = None
        self._lane.on_room = self.on_begin = self.on_stuck = _nobody_minds

    def _go_on(self) -> None:
        """The lane says that it has room, or that all has left: which of both, and for whom?"""
        if self._drained is not None:
            if self._lane.is_drained and not self._drained.done():
                self._end_wait()
                self._drained.set_result(None)
        elif self._reply is not None and self._waiting_since_s is not None and self._lane.window.has_room:
            self._end_wait()
            self._reply.resume()

    # --- watching the peer ----------------------------------------------------------------

    def _begin_wait(self) -> None:
        self._waiting_since_s = self._clock()
        self._looks_in_vain = 0
        self._taken_bytes = self._taken()
        self._look_later()

    def _end_wait(self) -> None:
        if self._waiting_since_s is not None:
            self.stalled_s += self._clock() - self._waiting_since_s
            self._waiting_since_s = None
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(self._patience_s / LOOKS, self._look_now)

    def _look_now(self) -> None:
        """While there is no peer, its time stands still."""
        taken = self._taken()
        if taken != self._taken_bytes:
            self._taken_bytes, self._looks_in_vain = taken, 0
        elif self._lane.attached:
            self._looks_in_vain += 1
        if self._looks_in_vain >= LOOKS:
            self._look = None
            self.on_stuck()
        else:
            self._look_later()

    def _taken(self) -> int:
        """What the peer has acknowledged; where it acknowledges nothing (protocol 2), what has left."""
        window = self._lane.window
        return window.sent_bytes - window.unacked_bytes


def _nobody_minds() -> None:
    """What `on_begin` and `on_stuck` are until the job sets them, and `on_room` after its end."""
