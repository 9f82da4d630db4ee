"""Whether the agent rests, why and until when; stops no job and tells no coordinator.

Two things make it rest: the hours that the operator has set, and another program that uses the GPU. Both are
looked at again and again: a machine may have slept, and its clock may have been set.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from provider_agent.agent import gpu_watch
from provider_agent.agent.config_sections import ScheduleSection
from provider_agent.agent.gpu_watch import GpuWatch
from provider_agent.agent.routing import Refusal
from provider_agent.agent.schedule import Schedule
from provider_agent.agent.waiting import Waiter, wait_until
from provider_agent.protocol.errors import ErrorCode
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY_S: Final = 30.0
LONGEST_RETRY_S: Final = 3600.0
"""Nobody is told to stay away for longer: settings may change."""

_SHORTEST_WAIT_S: Final = 0.01  # a timer may fire a little before the edge


class Rest(NamedTuple):
    """A pause.

    Attributes:
        why: for the operator, such as `outside active hours, until 22:00`.
        message: for clients, who need not know what else this machine does.
        until_s: when it ends, or may, by the clock on the wall.
    """

    why: str
    message: str
    until_s: float


class Pause:
    """See the module.

    Attributes:
        rest: the present pause, if there is one.
        on_change: called when one has begun or ended.
    """

    def __init__(
        self,
        section: ScheduleSection,
        gpu: GpuWatch,
        *,
        clock: Callable[[], float] = time.time,
        wait: Waiter = wait_until,
    ) -> None:
        """`clock` gives the seconds since the epoch."""
        self.rest: Rest | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._section = section
        self._hours = section.hours
        self._gpu = gpu
        self._clock = clock
        self._wait = wait
        self._settings_changed = asyncio.Event()

    def use(self, section: ScheduleSection) -> None:
        """These settings hold from now on."""
        if section == self._section:
            return
        self._section, self._hours = section, section.hours
        self._settings_changed.set()
        self.look()

    def refusal(self) -> Refusal | None:
        """What a job is told now; None while the agent serves."""
        rest = self.rest
        if rest is None:
            return None
        wait_s = min(max(rest.until_s - self._clock(), 0.0), LONGEST_RETRY_S)
        return Refusal(ErrorCode.OUT_OF_CAPACITY, rest.message, retry_after_ms=round(wait_s * 1000))

    def look(self) -> None:
        """Decide anew, and say so once each way."""
        if not self._section.pause_when_gpu_busy:
            self._gpu.forget()
        before, self.rest = self.rest, rest_now(self._hours, self._clock(), gpu_is_busy=self._gpu.is_busy)
        if (before is None) is (self.rest is None):
            return
        if self.rest is None:
            log.info("pause_ended")
        else:
            log.info("paused", reason=self.rest.why)
        self.on_change()

    async def run(self) -> None:
        """Look whenever something may have changed, until cancelled."""
        while True:
            self._settings_changed.clear()
            if self._section.pause_when_gpu_busy:
                await self._gpu.look()
            self.look()
            if self._section.is_set:
                await self._wait(self._next_look_s(), self._settings_changed)
            else:
                await self._settings_changed.wait()

    def _next_look_s(self) -> float:
        looks_at_gpu = self._section.pause_when_gpu_busy and not self._gpu.is_blind
        every_s = gpu_watch.LOOK_EVERY_S if looks_at_gpu else LOOK_EVERY_S
        now_s = self._clock()
        edge_s = self._hours.changes_at(now_s)
        return every_s if edge_s is None else min(every_s, max(edge_s - now_s, _SHORTEST_WAIT_S))


def rest_now(hours: Schedule, now_s: float, *, gpu_is_busy: bool = False) -> Rest | None:
    """The pause that there should be at this moment; the hours are the longer one."""
    if not hours.is_active(now_s):
        until_s = hours.changes_at(now_s) or now_s + LONGEST_RETRY_S
        told = hours.told(until_s)
        return Rest(f"outside active hours, until {told}", f"this agent rests until {told}", until_s)
    if gpu_is_busy:
        return Rest("another program uses the GPU", "this agent rests for a while", now_s + gpu_watch.QUIET_S)
    return None
