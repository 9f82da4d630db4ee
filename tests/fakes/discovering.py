"""Discovery for tests: who listens to it, and what its catalogs say in short."""

import asyncio
from dataclasses import dataclass, field

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.discovery import Catalog, Discovery
from provider_agent.backends.http import EngineHttp

LATE_S = 5.0


@dataclass
class Listener:
    """What was announced."""

    catalogs: list[Catalog] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, catalog: Catalog) -> None:
        self.catalogs.append(catalog)
        self.heard.set()

    async def hears(self, count: int) -> None:
        """Wait for so many announcements in all."""
        async with asyncio.timeout(LATE_S):
            while len(self.catalogs) < count:
                self.heard.clear()
                await self.heard.wait()


def models(catalog: Catalog) -> dict[str, list[str]]:
    """Names of engines, and of their models."""
    return {entry.backend.name: [model.model_id for model in entry.models] for entry in catalog.entries}


def healthy(catalog: Catalog) -> list[bool]:
    return [entry.healthy for entry in catalog.entries]


def configured(http: EngineHttp, *settings: BackendSettings, **options: object) -> Discovery:
    return Discovery(settings, http, probe_loopback=False, **options)  # type: ignore[arg-type]


def probing(
    http: EngineHttp, *ports: int, settings: tuple[BackendSettings, ...] = (), **options: object
) -> Discovery:
    return Discovery(settings, http, probe_loopback=True, loopback_ports=ports, **options)  # type: ignore[arg-type]
