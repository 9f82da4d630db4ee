"""Keeps the circuits of this process: hears how jobs end, and says which routes take none now."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from provider_agent.agent.circuit import Block, Circuits, Key
from provider_agent.agent.failover import counts_against, rest_after
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Route
from provider_agent.backends.base import Backend, BackendError
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

LATE_S: Final = 0.05
"""After a pause, until it is told: timers fire early, uvloop's by 1 ms, those of Windows by 16."""


class Breaker:
    """See the module.

    Attributes:
        present: the backends of the present catalog; None for whichever there are. What becomes of jobs on
            one that was replaced says nothing of its successor, which has the same name.
        on_change: called when a circuit has opened, and when an open one may be tried again or has closed.
        on_open: told the route of a circuit that has opened, and for how long.
    """

    def __init__(self, *, clock: Callable[[], float], running: Callable[[], Collection[RunningJob]]) -> None:
        """`running` gives what runs at present."""
        self.present: Collection[Backend] | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.on_open: Callable[[Route, float], None] = lambda _route, _pause_s: None
        self._circuits = Circuits()
        self._clock = clock
        self._running = running

    @property
    def open_keys(self) -> frozenset[Key]:
        """The routes that take no job now because their engine keeps failing."""
        return self._circuits.open_keys(self._clock()) if self._circuits else frozenset()

    @property
    def unproven_keys(self) -> frozenset[Key]:
        """Those, and the ones that may be tried again but have not answered yet."""
        return self._circuits.unproven_keys

    def minds(self, route: Route) -> bool:
        """Whether what happens on this route matters to those who come."""
        return self.present is None or route.backend in self.present

    def block(self, route: Route) -> Block | None:
        """Why the route takes no job now; None when it takes one."""
        if not self._circuits:
            return None
        key = route.key
        untried = sum(each.route.key == key and each.pump.first_byte_s is None for each in self._running())
        return self._circuits.block(key, self._clock(), untried)

    def succeeded(self, route: Route) -> None:
        """A job there has ended well."""
        if self._circuits and self.minds(route) and self._circuits.succeeded(route.key):
            self._closed(route)

    def vouch(self, route: Route) -> None:
        """A question of our own was answered there."""
        if self.minds(route) and self._circuits.vouch(route.key, self._clock()):
            self._closed(route)

    def _closed(self, route: Route) -> None:
        log.info("circuit_closed", backend=route.backend.name, upstream_model=route.model.model_id)
        self.on_change()

    def failed(self, route: Route, error: BackendError) -> None:
        rest = rest_after(error)
        if rest is not None:
            self._circuits.rest(route.key, self._clock(), rest)
        if not counts_against(error):
            return
        pause_s = self._circuits.failed(route.key, self._clock())
        if pause_s is None:
            return
        log.warning(
            "circuit_opened",
            backend=route.backend.name,
            upstream_model=route.model.model_id,
            code=error.code.value,
            pause_s=pause_s,
        )
        self.on_change()
        asyncio.get_running_loop().call_later(pause_s + LATE_S, self._changed)
        self.on_open(route, pause_s)

    def forget(self, backends: Collection[str]) -> None:
        """These engines are new, or back."""
        if self._circuits and backends:
            self._circuits.forget(backends)
            self.on_change()

    def _changed(self) -> None:
        self.on_change()  # whoever listens by then
