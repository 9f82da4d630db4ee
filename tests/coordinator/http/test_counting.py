"""Requests that never became a job are counted, too."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from provider_agent.coordinator.http.counting import count_jobless
from provider_agent.coordinator.http.errors import RequestError, tell_errors
from provider_agent.telemetry.metrics import CoordinatorMetrics, CoordinatorView


async def refuse(_request: web.Request) -> web.Response:
    """A door that knows no key."""
    raise RequestError(401, "invalid_api_key", "no")


async def serve(_request: web.Request) -> web.Response:
    """A door that makes a job."""
    return web.Response(headers={"X-Job-Id": "j1"})


async def show(_request: web.Request) -> web.Response:
    """A door that makes none."""
    return web.Response()


async def metrics_after(path: str) -> str:
    """The metrics after one request."""
    metrics = CoordinatorMetrics(lambda: CoordinatorView(0, 0, 0, 0, 0))
    app = web.Application(middlewares=[count_jobless(metrics), tell_errors])
    app.router.add_get("/v1/refused", refuse)
    app.router.add_get("/v1/job", serve)
    app.router.add_get("/v1/models/{model_id}", show)
    app.router.add_get("/v1/agents/connect", show)
    app.router.add_get("/api/tags", show)
    app.router.add_get("/healthz", show)
    async with TestClient(TestServer(app)) as client, client.get(path):
        return metrics.render().decode()


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/v1/refused", 'endpoint="/v1/refused",status="401"'),
        ("/v1/models/llama3", 'endpoint="/v1/models/{model_id}",status="200"'),
        ("/v1/made/up", 'endpoint="other",status="404"'),
        ("/api/tags", 'endpoint="/api/tags",status="200"'),
    ],
)
async def test_an_answer_without_a_job_is_counted_by_route_and_status(path: str, labels: str) -> None:
    """Never by the path as it came: a client cannot make up labels."""
    assert f"requests_total{{{labels}}} 1.0" in await metrics_after(path)


@pytest.mark.parametrize("path", ["/v1/job", "/v1/agents/connect", "/healthz"])
async def test_jobs_agents_and_probes_are_not_counted_here(path: str) -> None:
    """Jobs are when they end, sessions when they are over, probes never."""
    assert "requests_total{" not in await metrics_after(path)
