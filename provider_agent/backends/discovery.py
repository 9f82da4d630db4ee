"""Finds engines and watches them: configured ones, and those on this machine; knows no job and no session.

It runs beside everything else and keeps the last that was known: nobody waits for a probe.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Final

from provider_agent.backends.base import (
    Backend,
    BackendError,
    BackendModel,
    BackendSettings,
    BackendUnreachable,
    OutOfSockets,
)
from provider_agent.backends.families import AUTO, FAMILIES, identify
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.roster import LOOPBACK_PORTS, free_name, watches_for
from provider_agent.backends.watch import Catalog, CatalogEntry, Pace, Watch
from provider_agent.telemetry.logs import get_logger

__all__ = ["LOOPBACK_PORTS", "Catalog", "CatalogEntry", "Discovery"]

log = get_logger(__name__)

_CONFIGURED_TIMEOUT_S: Final = 5.0
"""A configured engine may be far away or busy; the others do not wait for it."""

_EARLY_PAUSE_S: Final = 0.25
"""A burst of jobs that find an engine dead makes one probe, not one each."""


class Discovery:
    """See the module.

    Args:
        interval_s: between two looks at an engine that is well, or at an address where none is known.
        grace_s: how long an engine that fails is still offered.
        retry_s: between two looks at an engine that is known and fails; a paid one is not pressed so.
        probe_timeout_s: for guesses on this machine.
        on_change: called with each new catalog, and only with new ones.
    """

    def __init__(
        self,
        settings: Sequence[BackendSettings],
        http: EngineHttp,
        *,
        probe_loopback: bool,
        interval_s: float = 30,
        grace_s: float = 10,
        retry_s: float = 2,
        probe_timeout_s: float = 0.8,
        clock: Callable[[], float] = time.monotonic,
        loopback_ports: Sequence[int] = LOOPBACK_PORTS,
        on_change: Callable[[Catalog], None] = lambda _catalog: None,
    ) -> None:
        self._http = http
        self._pace = Pace(interval_s, grace_s, retry_s)
        self._probe_timeout_s = probe_timeout_s
        self._clock = clock
        self._loopback_ports = loopback_ports
        self._on_change = on_change
        self._catalog = Catalog(())
        self._asked: set[Watch] = set()
        self._wake = asyncio.Event()
        guessed = loopback_ports if probe_loopback else ()
        self._watches = watches_for(settings, guessed, (), self._backend)

    @property
    def catalog(self) -> Catalog:
        """The last that was known; empty before the first look."""
        return self._catalog

    def reconfigure(
        self, settings: Sequence[BackendSettings], *, probe_loopback: bool, interval_s: float, grace_s: float
    ) -> None:
        """Go by these from now on. What they leave as it was is not touched; the rest is looked at now."""
        guessed = self._loopback_ports if probe_loopback else ()
        self._watches = watches_for(settings, guessed, self._watches, self._backend)
        self._pace = self._pace._replace(interval_s=interval_s, grace_s=grace_s)
        self._publish()
        self._wake.set()

    # --- when to look -----------------------------------------------------------------------

    async def run(self) -> None:
        """Look at each address when its time has come, for ever. What an engine does never ends it."""
        for watch in self._watches:
            watch.want(self._clock())
        async with asyncio.TaskGroup() as rounds:
            while True:
                self._wake.clear()
                now_s = self._clock()
                due = [watch for watch in self._idle if watch.due_s(self._pace_of(watch)) <= now_s]
                if due:
                    rounds.create_task(self._round(due))
                await self._next_is_due()

    async def _next_is_due(self) -> None:
        next_s = min((watch.due_s(self._pace_of(watch)) for watch in self._idle), default=None)
        try:
            async with asyncio.timeout(None if next_s is None else next_s - self._clock()):
                await self._wake.wait()
        except TimeoutError:
            return

    @property
    def _idle(self) -> list[Watch]:
        """Those at which nobody looks at this moment."""
        return [watch for watch in self._watches if watch not in self._asked]

    def _pace_of(self, watch: Watch) -> Pace:
        """What costs money, and counts our questions, is not asked the more for being out of order."""
        if watch.backend is not None and FAMILIES[watch.backend.kind].is_remote:
            return self._pace._replace(retry_s=self._pace.interval_s)
        return self._pace

    def report_unreachable(self, backend_name: str) -> None:
        """A job could not connect: its models leave the catalog now, and it is looked at soon."""
        for watch in self._named(backend_name):
            if not watch.is_failing:
                log.warning("engine_lost", backend=backend_name, reason="a job could not connect")
            watch.reported_dead(self._clock())
            watch.want(self._clock() + _EARLY_PAUSE_S)
        self._publish()
        self._wake.set()

    def report_changed(self, backend_name: str) -> None:
        """A job did not find there what the catalog has: it is looked at soon, and trusted until then."""
        for watch in self._named(backend_name):
            watch.want_again(self._clock() + _EARLY_PAUSE_S, self._pace.retry_s)
        self._wake.set()

    def _named(self, backend_name: str) -> list[Watch]:
        return [
            watch
            for watch in self._watches
            if watch.backend is not None and watch.backend.name == backend_name
        ]

    # --- looking ----------------------------------------------------------------------------

    async def refresh(self) -> Catalog:
        """Look at all addresses, all at once; what is slow is added when it comes."""
        await self._round(self._idle)
        return self._catalog

    def _round(self, watches: Collection[Watch]) -> Coroutine[None, None, None]:
        """From this moment on they are being looked at."""
        now_s = self._clock()
        for watch in watches:
            watch.begin(now_s)
        self._asked.update(watches)
        return self._look_at_all(watches)

    async def _look_at_all(self, watches: Collection[Watch]) -> None:
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(self._probe(watch)) for watch in watches]
            if probes:
                await asyncio.wait(probes, timeout=2 * self._probe_timeout_s)
            self._publish()
        self._publish()

    async def _probe(self, watch: Watch) -> None:
        try:
            await self._ask(watch)
        finally:
            self._asked.discard(watch)
            self._wake.set()

    async def _ask(self, watch: Watch) -> None:
        asked_at, was_found = watch.deaths, watch.is_found
        try:
            async with asyncio.timeout(_CONFIGURED_TIMEOUT_S):
                backend, models = await self._look_at(watch)
        except OutOfSockets as error:  # says nothing about the engine: what was known of it stays
            if watch.is_configured or watch.is_found:
                log.warning("engine_not_asked", url=watch.url, reason=str(error))
        except (BackendError, TimeoutError) as error:
            self._failed(watch, str(error) or "no answer in time")
        except Exception:  # whatever is behind a port: it must not end the agent, nor the look at the others
            log.exception("probe_crashed", url=watch.url)
            self._failed(watch, "a defect in the agent ended the look at it")
        else:
            watch.succeeded(backend, models, asked_at=asked_at)
            if not was_found and watch.is_found:
                log.info("engine_found", backend=backend.name, kind=backend.kind, models=len(models))

    def _failed(self, watch: Watch, reason: str) -> None:
        is_ours = watch in self._watches  # not replaced meanwhile
        is_news = is_ours and not watch.is_failing and (watch.is_configured or watch.is_found)
        watch.failed(self._clock(), self._pace.grace_s)
        if is_news:
            name = watch.backend.name if watch.backend else watch.settings.name or watch.url
            log.warning("engine_lost", backend=name, reason=reason)

    async def _look_at(self, watch: Watch) -> tuple[Backend, tuple[BackendModel, ...]]:
        """Who is there, and with which models. Raises BackendError."""
        if watch.settings.kind == AUTO or watch.backend is None:
            backend = await self._identified(watch)
        else:
            backend = watch.backend
        return backend, await backend.list_models()

    async def _identified(self, watch: Watch) -> Backend:
        """Asked anew each time: another engine may have taken the port, and must not run as the old."""
        family = await identify(
            self._http,
            watch.url,
            api_key=watch.settings.api_key,
            timeout_s=_CONFIGURED_TIMEOUT_S / 2 if watch.is_configured else self._probe_timeout_s,
            only_local=not watch.is_configured,
            before=watch.backend.kind if watch.backend else None,
        )
        if family is None:
            raise BackendUnreachable("nobody answers there, or no engine that we know")
        if watch.backend is not None and watch.backend.kind == family.kind:
            return watch.backend
        others = [each for each in self._watches if each is not watch]
        return self._backend(family.kind, watch.settings, watch.url, others)

    def _backend(self, kind: str, settings: BackendSettings, url: str, beside: Collection[Watch]) -> Backend:
        return FAMILIES[kind](self._http, settings, url=url, name=free_name(settings, kind, url, beside))

    def _publish(self) -> None:
        entries = (watch.entry for watch in self._watches)
        catalog = Catalog(tuple(entry for entry in entries if entry is not None))
        if catalog != self._catalog:
            self._catalog = catalog
            self._on_change(catalog)
