"""What is kept of ended jobs, and of the last session, until the coordinator has it; decides nothing else."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from provider_agent.protocol.frames import LEGACY_PROTOCOL, AuthOk, Resume, ResumeJob
from provider_agent.transport.lane import Lane

KEPT_LANES = 1024
KEPT_BYTES = 64 * 1024 * 1024
"""How much is kept for a coordinator that acknowledges nothing; beyond that the oldest is given up.

All of them are listed in one `auth_response`, which has to be small enough for what comes from a stranger.
"""

LONGEST_WINDOW_S = 600.0
"""No coordinator makes us keep an engine busy for longer than this after it has gone."""


class KeptLane(msgspec.Struct, frozen=True):
    """The lane of a job that has ended, and whose outcome nobody has acknowledged.

    Attributes:
        size_bytes: what it weighs here: its bytes without acknowledgement when it was put here.
    """

    lane: Lane
    attempt: int
    size_bytes: int


class KeptLanes:
    """Such lanes by job id, oldest first; bounded in number and in bytes."""

    def __init__(self, most_lanes: int = KEPT_LANES, most_bytes: int = KEPT_BYTES) -> None:
        self._most_lanes = most_lanes
        self._most_bytes = most_bytes
        self._rows: OrderedDict[str, KeptLane] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[KeptLane]:
        return iter(tuple(self._rows.values()))

    def lane(self, job_id: str) -> Lane | None:
        row = self._rows.get(job_id)
        return None if row is None else row.lane

    def keep(self, lane: Lane, attempt: int) -> None:
        self.drop(lane.job_id)
        size = lane.window.unacked_bytes + lane.window.waiting_bytes
        self._rows[lane.job_id] = KeptLane(lane, attempt, size)
        self._bytes += size
        while len(self._rows) > self._most_lanes or self._bytes > self._most_bytes:
            self.drop(next(iter(self._rows)))

    def drop(self, job_id: str) -> Lane | None:
        row = self._rows.pop(job_id, None)
        if row is None:
            return None
        self._bytes -= row.size_bytes
        return row.lane

    def clear(self) -> None:
        self._rows.clear()
        self._bytes = 0


class ResumeWindow:
    """The time in which the coordinator may come back to its jobs, on the clock of the loop."""

    def __init__(self, on_passed: Callable[[], None]) -> None:
        self._on_passed = on_passed
        self._end: asyncio.TimerHandle | None = None

    def open(self, for_s: float) -> None:
        self.close()
        self._end = asyncio.get_running_loop().call_later(for_s, self._pass)

    def close(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    @property
    def left_s(self) -> float:
        """0 while it is closed."""
        if self._end is None:
            return 0.0
        return max(0.0, self._end.when() - asyncio.get_running_loop().time())

    def _pass(self) -> None:
        self._end = None
        self._on_passed()


@dataclass(slots=True)
class LastSession:
    """The session that was accepted last, as far as it matters to the next one.

    Attributes:
        session_id: None where there is none to go back to.
        window_s: for how long the coordinator waits after a drop; 0 for not at all.
    """

    session_id: str | None = None
    window_s: float = 0.0

    def note(self, accepted: AuthOk, protocol: int) -> None:
        """Protocol 2 has no way back, and a session without a name none either."""
        can_resume = protocol > LEGACY_PROTOCOL and accepted.session_id is not None
        self.session_id = accepted.session_id if can_resume else None
        self.window_s = min(accepted.resume_window_ms / 1000, LONGEST_WINDOW_S) if can_resume else 0.0

    def resume(self, jobs: tuple[ResumeJob, ...], left_s: float) -> Resume | None:
        """What to ask the next session for, while there are `left_s` left to ask in."""
        if self.session_id is None or left_s <= 0:
            return None
        return Resume(session_id=self.session_id, jobs=jobs)
