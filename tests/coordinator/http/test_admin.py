"""Probes and scrapes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from provider_agent.coordinator.http.admin import AdminDoor
from provider_agent.coordinator.store.base import Store
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.telemetry.metrics import CONTENT_TYPE, CoordinatorMetrics, CoordinatorView
from tests.fakes.stores import BrokenStore, StuckStore

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def admin(
    store: Store | None = None, *, stopping: bool = False, store_timeout_s: float = 2.0
) -> AsyncIterator[Client]:
    """A client of the door over this store."""
    app = web.Application()
    metrics = CoordinatorMetrics(
        lambda: CoordinatorView(agents=2, models=1, free_slots=0, running_jobs=0, waiting_jobs=3)
    )
    AdminDoor(
        MemoryStore() if store is None else store,
        metrics,
        is_stopping=lambda: stopping,
        store_timeout_s=store_timeout_s,
    ).add_to(app)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_healthy_coordinator_is_alive_and_ready() -> None:
    """The ordinary case."""
    async with admin() as client:
        for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
            async with client.get(path) as response:
                assert (response.status, await response.json()) == (200, {"status": status})


@pytest.mark.parametrize(
    ("store", "reason"),
    [(BrokenStore(), "the store cannot be used"), (StuckStore(), "the store does not answer")],
)
async def test_without_its_store_it_is_not_ready(store: Store, reason: str) -> None:
    """Field note 60: readiness is 503 when not ready, soon, and says why."""
    async with admin(store, store_timeout_s=0.01) as client, client.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["reason"] == reason


async def test_a_stopping_coordinator_is_alive_but_not_ready() -> None:
    """New requests go elsewhere while running jobs end."""
    async with admin(stopping=True) as client:
        async with client.get("/readyz") as response:
            assert (response.status, (await response.json())["reason"]) == (503, "shutting down")
        async with client.get("/healthz") as response:
            assert response.status == 200


async def test_liveness_does_not_ask_the_store() -> None:
    """Field note 60: a slow database must not get a healthy process restarted."""
    async with admin(BrokenStore()) as client, client.get("/healthz") as response:
        assert response.status == 200


async def test_metrics_are_in_prometheus_text_format() -> None:
    """Read from the view at the scrape."""
    async with admin() as client, client.get("/metrics") as response:
        assert response.headers["Content-Type"] == CONTENT_TYPE
        text = await response.text()
    assert "provider_coordinator_agents 2.0" in text
    assert "provider_coordinator_waiting_jobs 3.0" in text
