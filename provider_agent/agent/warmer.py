"""Keeps the models in memory that the operator wants there, beside everything else; knows no engine family.

Nobody waits for it, and no slot of a client is taken: it asks nothing of an engine whose slots are taken, nor
for a model that a job is using, which keeps it in memory anyway.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final

from provider_agent.agent.admission import free_routes
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Route, RoutingTable
from provider_agent.agent.warmth import CHECK_S, MOST_LOSSES, PAUSE_S, Warmth
from provider_agent.backends.base import BackendError
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

LOAD_LIMIT_S: Final = 600.0
"""A large model comes from a slow disk in minutes."""

_GIVEN_UP: Final = (
    f"its engine unloaded it soon after each of {MOST_LOSSES} loads, so more models are wanted than fit into "
    f"memory; it is left alone for {PAUSE_S / 60:g} minutes"
)


class Warmer:
    """See the module.

    Attributes:
        on_loaded: told the name of a backend that has another model in memory now.
    """

    def __init__(
        self,
        globs: Iterable[str],
        *,
        table: Callable[[], RoutingTable],
        running: Callable[[], Collection[RunningJob]],
        clock: Callable[[], float],
    ) -> None:
        """`globs` are of public names; `table` gives what is served at present, `running` what runs."""
        self.on_loaded: Callable[[str], None] = lambda _backend: None
        self._globs = tuple(globs)
        self._table = table
        self._running = running
        self._clock = clock
        self._warmth = Warmth()
        self._at_work: set[str] = set()  # backends
        self._wake = asyncio.Event()

    def use(self, globs: Iterable[str]) -> None:
        """Keep these from now on. What is in memory already leaves when its engine wants it to."""
        self._globs = tuple(globs)
        self._warmth.forget()
        self.look()

    def look(self) -> None:
        """Something has changed: see now whether there is something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Look again and again, for ever. What an engine does never ends it."""
        async with asyncio.TaskGroup() as loads:
            while True:
                self._wake.clear()
                for route in self._due():
                    self._at_work.add(route.backend.name)
                    loads.create_task(self._warm(route))
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._wake.wait()

    def _due(self) -> list[Route]:
        """One of each engine: two loads at once would only fight for its disk and memory."""
        plan = self._warmth.plan(self._table().routes_named(self._globs), self._clock())
        for route in plan.given_up:
            log.warning("model_not_kept_warm", **_names(route), reason=_GIVEN_UP)
        first: dict[str, Route] = {}
        for route in plan.due:
            if route.backend.name not in self._at_work and self._is_free(route):
                first.setdefault(route.backend.name, route)
        return list(first.values())

    def _is_free(self, route: Route) -> bool:
        running = self._running()
        return all(each.route.key != route.key for each in running) and bool(
            free_routes((route,), running, untold=1)
        )

    async def _warm(self, route: Route) -> None:
        began_s = self._clock()
        try:
            await route.backend.keep_warm(route.model, within_s=LOAD_LIMIT_S)
        except BackendError as error:
            self._failed(route, error.message)
        except Exception:  # whatever an engine answers: the agent goes on without the warmth
            log.exception("warming_crashed", **_names(route))
            self._failed(route, "a defect in the agent ended it")
        else:
            self._succeeded(route, began_s)
        finally:
            self._at_work.discard(route.backend.name)
            self._wake.set()

    def _succeeded(self, route: Route, began_s: float) -> None:
        now_s = self._clock()
        if self._warmth.succeeded(route, now_s):
            log.info("model_loaded", **_names(route), duration_s=round(now_s - began_s, 1))
            self.on_loaded(route.backend.name)

    def _failed(self, route: Route, reason: str) -> None:
        retry_s = self._warmth.failed(route, reason, self._clock())
        if retry_s is not None:
            log.warning("model_not_loaded", **_names(route), reason=reason, retry_s=retry_s)


def _names(route: Route) -> dict[str, str]:
    return {"backend": route.backend.name, "model_id": route.model.model_id}
