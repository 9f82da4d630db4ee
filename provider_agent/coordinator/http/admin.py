"""The doors for whoever runs the coordinator: alive, ready, metrics; knows no client and no agent."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from provider_agent.coordinator.store.base import Store, StoreError
from provider_agent.telemetry.metrics import CONTENT_TYPE, CoordinatorMetrics

STORE_TIMEOUT_S = 2.0


class AdminDoor:
    """Answers probes and scrapes.

    `/healthz` says that the process answers, and asks nothing else: a slow database must not get a
    healthy process restarted. `/readyz` says whether requests should be sent here.
    """

    def __init__(
        self,
        store: Store,
        metrics: CoordinatorMetrics,
        *,
        is_stopping: Callable[[], bool],
        store_timeout_s: float = STORE_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._store_timeout_s = store_timeout_s

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        obstacle = await self._obstacle()
        if obstacle is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": obstacle}, status=503)

    async def _obstacle(self) -> str | None:
        if self._is_stopping():
            return "shutting down"
        try:
            async with asyncio.timeout(self._store_timeout_s):
                await self._store.ping()
        except StoreError:
            return "the store cannot be used"
        except TimeoutError:
            return "the store does not answer"
        return None

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
