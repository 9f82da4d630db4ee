"""Whether the peer still lives, judged by when it was last heard; knows no WebSocket library.

A peer that was silent for `ping_after_s` is pinged; one that then says nothing for `dead_after_s`
is dead. Whoever was late himself (a busy event loop) does not judge: he asks again.
"""

import asyncio
from collections.abc import Callable
from enum import Enum

PING_AFTER_S = 5.0
DEAD_AFTER_S = 5.0

LATE_S = 1.0
"""A judge who is later than this pings again: the answer may lie unread."""

LAST_LOOK_S = 0.01
"""Before the final word the loop reads once more what has arrived: uvloop runs timers before sockets."""


class Verdict(Enum):
    """What is to be done now."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """The judgement itself; all times are of one clock, in seconds.

    Attributes:
        heard_s: when the peer was last heard; to be set at every received byte.
        due_s: when to judge next.
    """

    def __init__(self, now_s: float, *, ping_after_s: float, dead_after_s: float) -> None:
        self.heard_s = now_s
        self.due_s = now_s + ping_after_s
        self._ping_after_s = ping_after_s
        self._dead_after_s = dead_after_s
        self._pinged_s: float | None = None

    def judge(self, now_s: float) -> Verdict:
        """The verdict at this moment; sets when to ask again.

        1. Heard since the last ping, or never pinged: due when it has been silent for long enough.
        2. Silent for that long: ping, and wait for anything at all.
        3. Pinged, and too early to say, or too late to be fair.
        4. Pinged, and nothing came.
        """
        if self._pinged_s is None or self.heard_s >= self._pinged_s:
            self._pinged_s = None
            self.due_s = self.heard_s + self._ping_after_s
            return Verdict.WAIT if now_s < self.due_s else self._ping(now_s)  # 1, 2
        if now_s < self.due_s:
            return Verdict.WAIT
        return self._ping(now_s) if now_s > self.due_s + LATE_S else Verdict.DEAD  # 3, 4

    def _ping(self, now_s: float) -> Verdict:
        self._pinged_s = now_s
        self.due_s = now_s + self._dead_after_s
        return Verdict.PING


class Watch:
    """Applies a `Liveness` to one connection, with a timer of the loop and without a task.

    Attributes:
        liveness: what it judges by.
    """

    def __init__(
        self,
        liveness: Liveness,
        *,
        is_reading: Callable[[], bool],
        ping: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        """`is_reading`: False while our own side does not read, when silence proves nothing."""
        self.liveness = liveness
        self._is_reading = is_reading
        self._ping = ping
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle = self._loop.call_at(liveness.due_s, self._judge)

    def stop(self) -> None:
        self._timer.cancel()

    def _judge(self) -> None:
        now_s = self._loop.time()
        if not self._is_reading():
            self.liveness.heard_s = now_s
        verdict = self.liveness.judge(now_s)
        if verdict is Verdict.DEAD:
            self._timer = self._loop.call_later(LAST_LOOK_S, self._judge_finally, self.liveness.heard_s)
            return
        if verdict is Verdict.PING:
            self._ping()
        self._timer = self._loop.call_at(self.liveness.due_s, self._judge)

    def _judge_finally(self, heard_s: float) -> None:
        if self.liveness.heard_s == heard_s:
            self._give_up()
        else:
            self._judge()


class Ear(asyncio.Protocol):
    """Stands before the protocol of a transport, and tells of every byte that arrives.

    For a library that tells of whole messages only: one may take longer than a peer may be silent.
    """

    def __init__(self, protocol: asyncio.Protocol, liveness: Liveness) -> None:
        self._liveness = liveness
        self._now_s = asyncio.get_running_loop().time
        self._receive = protocol.data_received
        self._protocol = protocol

    def data_received(self, data: bytes) -> None:
        self._liveness.heard_s = self._now_s()
        self._receive(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
