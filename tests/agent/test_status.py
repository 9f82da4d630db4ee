"""The pages as a probe, Prometheus and an operator read them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from provider_agent import __version__
from provider_agent.agent.status import StatusSource, obstacle, status_page
from provider_agent.protocol.vitals import BackendStatus
from provider_agent.telemetry.metrics import AgentMetrics, AgentView
from tests.fakes.logs import LogLines

SERVING = AgentView(
    session_up=True,
    active_jobs=1,
    max_concurrent=8,
    draining=False,
    models=2,
    backends=(BackendStatus(name="gpu", kind="vllm", healthy=True, active_jobs=1, max_concurrent=4),),
)
ANY_PORT = ("127.0.0.1", 0)


class Page:
    """A status page of an agent whose view can be changed."""

    def __init__(self, session: ClientSession) -> None:
        self.view = SERVING
        self.metrics = AgentMetrics(lambda: self.view)
        self.source = StatusSource(lambda: self.view, self.metrics.render, lambda: {"provider_id": "prov-1"})
        self.port: int | None = None
        self._session = session

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type and text."""
        async with asyncio.timeout(10), self._session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.status, response.headers["Content-Type"], await response.text()

    async def json(self, path: str) -> tuple[int, object]:
        async with asyncio.timeout(10), self._session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.status, await response.json()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with ClientSession() as session:
        page = Page(session)
        async with status_page(ANY_PORT, page.source) as page.port:
            yield page


async def test_a_serving_agent_is_alive_and_ready(page: Page) -> None:
    """Session up, a model on offer."""
    assert await page.json("/healthz") == (200, {"status": "ok"})
    assert await page.json("/readyz") == (200, {"ready": True})


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (replace(SERVING, session_up=False), "there is no session with the coordinator"),
        (
            replace(SERVING, session_up=False, why_no_session="nothing listens at c.example"),
            "there is no session with the coordinator: nothing listens at c.example",
        ),
        (replace(SERVING, models=0), "there is no model to offer"),
        (replace(SERVING, draining=True), "the agent is draining"),
        (
            replace(SERVING, models=0, paused="outside active hours, until 22:00"),
            "paused: outside active hours",
        ),
    ],
)
async def test_an_agent_that_cannot_serve_is_alive_but_not_ready(
    page: Page, view: AgentView, reason: str
) -> None:
    """Nothing outside the process makes it unhealthy, or a supervisor would restart it for no good."""
    page.view = view

    status, body = await page.json("/readyz")
    assert status == 503
    assert isinstance(body, dict)
    assert body["ready"] is False
    assert body["reason"].startswith(reason)
    assert await page.json("/healthz") == (200, {"status": "ok"})


async def test_the_metrics_are_those_of_the_registry(page: Page) -> None:
    """In the format that Prometheus asks for."""
    page.metrics.dialled("ok")

    status, content_type, text = await page.get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert 'provider_agent_dials_total{result="ok"} 1.0' in text
    assert "provider_agent_active_jobs 1.0" in text


async def test_the_status_is_the_view_with_further_facts(page: Page) -> None:
    """What an operator asks first: why do I get no jobs?"""
    assert await page.json("/status") == (
        200,
        {
            "agent_version": __version__,
            "ready": True,
            "reason": None,
            "session_up": True,
            "draining": False,
            "paused": None,
            "active_jobs": 1,
            "max_concurrent": 8,
            "models": 2,
            "backends": [
                {"name": "gpu", "kind": "vllm", "healthy": True, "active_jobs": 1, "max_concurrent": 4}
            ],
            "provider_id": "prov-1",
        },
    )


async def test_the_status_answers_why_no_job_comes(page: Page) -> None:
    """In the words of `/readyz`, beside all that it may depend on (field note 79)."""
    page.view = replace(SERVING, models=0, paused="outside active hours, until 22:00")

    _, body = await page.json("/status")
    assert isinstance(body, dict)
    assert body["reason"] == "paused: outside active hours, until 22:00"
    assert body["paused"] == "outside active hours, until 22:00"


async def test_there_is_nothing_else_to_ask(page: Page) -> None:
    """And nothing to change."""
    assert (await page.get("/"))[0] == 404


async def test_a_port_in_use_is_a_warning_with_the_remedy() -> None:
    """The agent serves all the same."""
    log = LogLines()
    source = StatusSource(lambda: SERVING, bytes)
    with socket.create_server(ANY_PORT) as taken:
        async with status_page(taken.getsockname(), source) as port:
            assert port is None

    (entry,) = log.named("status_page_off")
    assert entry["level"] == "warning"
    assert "telemetry.status_listen" in entry["remedy"]
    assert entry["reason"] == "address already in use"


async def test_a_host_that_is_not_ours_is_a_warning_too() -> None:
    """192.0.2.1 is for documentation only."""
    async with status_page(("192.0.2.1", 0), StatusSource(lambda: SERVING, bytes)) as port:
        assert port is None


async def test_no_address_means_no_page() -> None:
    """`telemetry.status_listen = ""`."""
    async with status_page(None, StatusSource(lambda: SERVING, bytes)) as port:
        assert port is None


def test_leaving_is_the_first_reason_not_to_be_ready() -> None:
    """It is the one that will not pass."""
    assert obstacle(replace(SERVING, draining=True, session_up=False, models=0)) == "the agent is draining"
    assert obstacle(SERVING) is None
