"""Finds engines and watches them: configured ones, and those on this machine; knows no job and no session.

It runs beside everything else and keeps the last that was known: nobody waits for a probe.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from provider_agent.backends.address import normalise, place_of
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
from provider_agent.backends.watch import Catalog, CatalogEntry, Watch
from provider_agent.telemetry.logs import get_logger

__all__ = ["LOOPBACK_PORTS", "Catalog", "CatalogEntry", "Discovery"]

log = get_logger(__name__)

LOOPBACK_PORTS: Final = (11434, 8000, 8080, 1234, 30000, 1337, 5001, 5000, 3000, 12434, 8001, 8081)
"""Where engines listen unless told otherwise (engines.md), and the neighbours of those that share a port."""

_PATHS: Final = {12434: "/engines"}
"""Docker's model runner has its API below a folder."""

_CONFIGURED_TIMEOUT_S: Final = 5.0
"""A configured engine may be far away or busy; the others do not wait for it."""

_EARLY_PAUSE_S: Final = 0.25
"""A burst of jobs that find an engine dead makes one probe, not one each."""


class Discovery:
    """See the module.

    Args:
        interval_s: between two passes; shorter while an engine fails that is still offered.
        grace_s: how long it is offered then.
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
        probe_timeout_s: float = 0.8,
        clock: Callable[[], float] = time.monotonic,
        loopback_ports: Sequence[int] = LOOPBACK_PORTS,
        on_change: Callable[[Catalog], None] = lambda _catalog: None,
    ) -> None:
        self._http = http
        self._interval_s = interval_s
        self._grace_s = grace_s
        self._probe_timeout_s = probe_timeout_s
        self._clock = clock
        self._on_change = on_change
        self._catalog = Catalog(())
        self._one_pass = asyncio.Lock()
        self._look_again = asyncio.Event()
        self._watches: list[Watch] = []
        for each in settings:
            self._watches.append(self._watch(each))
        if probe_loopback:
            taken = {place_of(watch.url) for watch in self._watches}
            urls = (f"http://127.0.0.1:{port}{_PATHS.get(port, '')}" for port in loopback_ports)
            self._watches += [_guess(url) for url in urls if place_of(url) not in taken]

    @property
    def catalog(self) -> Catalog:
        """The last that was known; empty before the first pass."""
        return self._catalog

    async def run(self) -> None:
        """Look again and again, for ever. What an engine does never ends it."""
        while True:
            await self.refresh()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._look_again.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_EARLY_PAUSE_S)

    async def refresh(self) -> Catalog:
        """One pass over all addresses, all at once; what is slow is added when it comes."""
        async with self._one_pass:
            self._look_again.clear()
            async with asyncio.TaskGroup() as group:
                probes = [group.create_task(self._probe(watch)) for watch in self._watches]
                if probes:
                    await asyncio.wait(probes, timeout=2 * self._probe_timeout_s)
                self._publish()
            self._publish()
            return self._catalog

    def report_unreachable(self, backend_name: str) -> None:
        """A job could not connect: its models leave the catalog now, and it is looked at soon."""
        for watch in self._watches:
            if watch.backend is not None and watch.backend.name == backend_name:
                if not watch.is_failing:
                    log.warning("engine_lost", backend=backend_name, reason="a job could not connect")
                watch.reported_dead(self._clock())
                self._look_again.set()
        self._publish()

    async def _probe(self, watch: Watch) -> None:
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
        is_news = not watch.is_failing and (watch.is_configured or watch.is_found)
        watch.failed(self._clock(), self._grace_s)
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
            raise BackendUnreachable("no engine that we know answers there")
        if watch.backend is not None and watch.backend.kind == family.kind:
            return watch.backend
        return self._backend(family.kind, watch.settings, watch.url, {watch})

    def _watch(self, settings: BackendSettings) -> Watch:
        family = FAMILIES.get(settings.kind)
        if family is None and settings.kind != AUTO:
            raise ValueError(f"{settings.kind!r} is no kind of engine: {', '.join((*FAMILIES, AUTO))}")
        url = normalise(settings.url or (family.default_url if family else None) or "")
        backend = self._backend(settings.kind, settings, url, set()) if family else None
        return Watch(settings, url, is_configured=True, backend=backend)

    def _backend(self, kind: str, settings: BackendSettings, url: str, replaced: set[Watch]) -> Backend:
        """Named by the operator, or by kind and port; with a number if that is taken."""
        wanted = settings.name or f"{kind}-{place_of(url).port}"
        others = (watch.backend for watch in self._watches if watch not in replaced)
        taken = {backend.name for backend in others if backend is not None}
        numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
        name = next(name for name in (wanted, *numbered) if name not in taken)
        return FAMILIES[kind](self._http, settings, url=url, name=name)

    def _publish(self) -> None:
        entries = (watch.entry for watch in self._watches)
        catalog = Catalog(tuple(entry for entry in entries if entry is not None))
        if catalog != self._catalog:
            self._catalog = catalog
            self._on_change(catalog)

    def _pause_s(self) -> float:
        if any(watch.is_in_grace for watch in self._watches):
            return min(self._interval_s, self._grace_s / 2)
        return self._interval_s


def _guess(url: str) -> Watch:
    return Watch(BackendSettings(kind=AUTO, url=url), url, is_configured=False)
