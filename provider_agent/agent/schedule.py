"""In which hours of the day the agent serves; pure, told the time, and knows nothing of what a pause does.

Wall-clock time decides, as it stands on the operator's wall: what a change to or from summer time skips or
repeats is skipped or repeated here, too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_RANGE: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_MIDNIGHT: Final = re.compile(r"24:00", re.ASCII)
_DAY_S: Final = 86_400
_DAYS_AHEAD: Final = 3
"""A change is no further off: one range of a day may be skipped by a clock that is put forward."""


class BadSchedule(ValueError):
    """What was written is no schedule.

    Attributes:
        problem: what is wrong; reads after the key.
        remedy: what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` on, until just before `end`; over midnight when that is earlier."""

    start: time
    end: time

    def __contains__(self, moment: time) -> bool:
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


@dataclass(frozen=True, slots=True)
class Schedule:
    """The hours of service.

    Attributes:
        ranges: each of them; none for always.
        zone: whose wall-clock time is meant; None for this machine's.
    """

    ranges: tuple[Hours, ...] = ()
    zone: ZoneInfo | None = None

    def is_active(self, now_s: float) -> bool:
        """`now_s` is counted from the epoch, here and below."""
        if not self.ranges:
            return True
        moment = self._wall(now_s).time()
        return any(moment in hours for hours in self.ranges)

    def changes_at(self, now_s: float) -> float | None:
        """When the agent next begins to serve, or to rest; None if it never does."""
        is_active = self.is_active(now_s)
        later = sorted(edge_s for edge_s in self._edges(now_s) if edge_s > now_s)
        return next((edge_s for edge_s in later if self.is_active(edge_s) != is_active), None)

    def told(self, at_s: float) -> str:
        """That moment as the operator's clock shows it, such as `22:00` or `22:00 (Europe/Berlin)`."""
        return f"{self._wall(at_s):%H:%M}" + ("" if self.zone is None else f" ({self.zone.key})")

    def _wall(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(at_s, self.zone)

    def _edges(self, now_s: float) -> Iterator[float]:
        """Whenever something may change: an edge, in both passes of its hour, and a jump of the clock."""
        times = {edge for hours in self.ranges for edge in (hours.start, hours.end)}
        for day in range(-1, _DAYS_AHEAD if times else -1):
            date = self._wall(now_s + day * _DAY_S).date()
            for edge in times:
                for fold in (0, 1):
                    yield datetime.combine(date, edge.replace(fold=fold), self.zone).timestamp()
            yield from self._jump(int(now_s) + day * _DAY_S)

    def _jump(self, from_s: int) -> Iterator[float]:
        """The moment within a day from then on at which the clock is put forward or back, if there is one."""
        below_s, above_s = from_s, from_s + _DAY_S
        before = self._offset(below_s)
        if self._offset(above_s) == before:
            return
        while above_s - below_s > 1:
            middle_s = (below_s + above_s) // 2
            if self._offset(middle_s) == before:
                below_s = middle_s
            else:
                above_s = middle_s
        yield above_s

    def _offset(self, at_s: float) -> timedelta:
        return self._wall(at_s).replace(tzinfo=None) - datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)


def parse_hours(text: str) -> tuple[Hours, ...]:
    """The ranges of a text such as `22:00-07:00` or `09:00-12:00, 13:00-17:00`.

    Raises:
        BadSchedule: it is none.
    """
    return tuple(_parse_range(part.strip()) for part in text.split(","))


def _parse_range(text: str) -> Hours:
    found = _RANGE.fullmatch(text)
    if found is None and _MIDNIGHT.search(text):
        raise BadSchedule("holds 24:00, which no clock shows", "write midnight as 00:00")
    if found is None:
        raise BadSchedule(
            "holds what is no range of hours", 'write it as "22:00-07:00", several with commas between them'
        )
    start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if start == end:
        raise BadSchedule(
            f"holds a range that ends as it begins, at {start:%H:%M}", "remove the key to serve at all hours"
        )
    return Hours(start, end)


def find_zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        BadSchedule: it is not known on this machine.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # ZoneInfoNotFoundError; no key at all; a folder of zones
        problem = "is no time zone that this machine knows"
        raise BadSchedule(problem, 'write it as "Europe/Berlin", or remove it for local time') from None
