"""Whether the peer still lives, by what it says and takes; knows no WebSocket library.

1. A peer that was silent for `ping_after_s` is pinged; one that then says nothing for `dead_after_s`
   is dead. Whoever was late himself (a busy event loop) does not judge: he asks again.
2. A peer that takes what waits for it lives, too: its pong is behind all that. So a long message
   over a thin line is cut in neither direction.
3. A peer that talks, but takes nothing for `stalled_after_s`, is not waited for any longer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

LATE_S = 1.0
"""A judge who is later than this pings again: the answer may lie unread."""

LONGEST_LOOK_S = 6.0
"""What one look counts for at most: the ordinary five seconds, and not much late."""

LAST_LOOK_S = 0.01
"""Before the final word the loop reads once more what has arrived: uvloop runs timers before sockets."""


class Verdict(Enum):
    """What is to be done now."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a peer, in seconds.

    Attributes:
        ping_after_s, dead_after_s: how long it may be silent before it is pinged, and then until it is dead.
        stalled_after_s: how long it may take nothing. As long as protocol.md 5 grants the bytes of one
            job: by then no job whose bytes wait can live.
    """

    ping_after_s: float = 5.0
    dead_after_s: float = 5.0
    stalled_after_s: float = 30.0

    def tell(self, verdict: Verdict) -> str:
        """Why a peer was given up."""
        if verdict is Verdict.STALLED:
            return f"the peer took no bytes for {self.stalled_after_s:g} s"
        return f"the peer was silent for {self.ping_after_s + self.dead_after_s:g} s"


PATIENCE = Patience()
"""Of protocol.md 1 and 5."""


class Liveness:
    """The judgement itself; all times are of one clock, in seconds.

    Attributes:
        heard_s: when the peer was last heard; to be set at every received byte.
        due_s: when to judge next.
    """

    def __init__(self, now_s: float, patience: Patience = PATIENCE) -> None:
        self.heard_s = now_s
        self.due_s = now_s + patience.ping_after_s
        self._patience = patience
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
            self.due_s = self.heard_s + self._patience.ping_after_s
            return Verdict.WAIT if now_s < self.due_s else self._ping(now_s)  # 1, 2
        if now_s < self.due_s:
            return Verdict.WAIT
        return self._ping(now_s) if now_s > self.due_s + LATE_S else Verdict.DEAD  # 3, 4

    def _ping(self, now_s: float) -> Verdict:
        self._pinged_s = now_s
        self.due_s = now_s + self._patience.dead_after_s
        return Verdict.PING


class Outflow:
    """Whether the peer takes what waits for it.

    Attributes:
        stuck_s: for how long it has taken nothing, as far as that was looked at.
    """

    def __init__(self) -> None:
        self.stuck_s = 0.0
        self._looked_s = 0.0
        self._taken_bytes: int | None = None

    def look(self, now_s: float, taken_bytes: int | None) -> bool:
        """Whether anything that waited has left since the last look.

        `taken_bytes` is what has left in all; None while nothing waits, when that says nothing of the
        peer. A look that comes late counts for an ordinary one: whoever slept has not seen what left.
        """
        before, self._taken_bytes = self._taken_bytes, taken_bytes
        since_s, self._looked_s = now_s - self._looked_s, now_s
        has_moved = before is not None and (taken_bytes is None or taken_bytes > before)
        if before is None or has_moved:
            self.stuck_s = 0.0
        else:
            self.stuck_s += min(since_s, LONGEST_LOOK_S)
        return has_moved


class Watch:
    """Applies all this to one connection, with a timer of the loop and without a task.

    Attributes:
        liveness: what it judges by.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        is_reading: Callable[[], bool],
        taken_bytes: Callable[[], int | None],
        ping: Callable[[], None],
        give_up: Callable[[Verdict], None],
    ) -> None:
        """`is_reading`: False while our own side does not read, when silence proves nothing.

        `taken_bytes` is as `Outflow.look` takes it. `give_up` is for DEAD and STALLED, and called once.
        """
        self._loop = asyncio.get_running_loop()
        self.liveness = Liveness(self._loop.time(), patience)
        self._outflow = Outflow()
        self._patience = patience
        self._taken_bytes = taken_bytes
        self._is_reading = is_reading
        self._ping = ping
        self._give_up = give_up
        self._timer: asyncio.TimerHandle = self._loop.call_at(self.liveness.due_s, self._judge)

    def stop(self) -> None:
        self._timer.cancel()

    def _judge(self) -> None:
        now_s = self._loop.time()
        has_taken = self._outflow.look(now_s, self._taken_bytes())
        if self._outflow.stuck_s >= self._patience.stalled_after_s:
            self._give_up(Verdict.STALLED)
            return
        if has_taken or not self._is_reading():
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
            self._give_up(Verdict.DEAD)
        else:
            self._judge()
