"""Local HTTP for whoever watches this process: health, readiness, metrics, status; knows no job.

`/healthz` says that the process lives, and nothing else may make it fail; `/readyz` that it can serve.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from provider_agent import __version__
from provider_agent.telemetry.logs import get_logger
from provider_agent.telemetry.metrics import CONTENT_TYPE, AgentView

_log = get_logger(__name__)

_SHUTDOWN_S = 1.0
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class StatusSource:
    """What the pages are made of, asked for at each request.

    Attributes:
        view: how the agent is now.
        render_metrics: all metrics in Prometheus' text format.
        facts: more plain values for `/status`; no secrets, since anybody on this machine can read it.
    """

    view: Callable[[], AgentView]
    render_metrics: Callable[[], bytes]
    facts: Callable[[], Mapping[str, object]] = dict


@asynccontextmanager
async def status_page(address: tuple[str, int] | None, source: StatusSource) -> AsyncIterator[int | None]:
    """Serve the pages while entered; gives the port, or None when they are off.

    A port that cannot be had is a warning: watching an agent is worth less than the agent.
    """
    if address is None:
        yield None
        return
    runner = web.AppRunner(_application(source), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        yield await _listen(runner, address)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: tuple[str, int]) -> int | None:
    host, port = address
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        _log.warning(
            "status_page_off",
            address=f"{host}:{port}",
            reason=error.strerror or str(error),
            remedy='set telemetry.status_listen to a free port, or to "" to do without',
        )
        return None
    bound: int = runner.addresses[0][1]
    _log.info("status_page_on", address=f"{host}:{bound}")
    return bound


def _application(source: StatusSource) -> web.Application:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        why_not = obstacle(source.view())
        if why_not is None:
            return web.json_response({"ready": True})
        return web.json_response({"ready": False, "reason": why_not}, status=_UNAVAILABLE)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=source.render_metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def status(_request: web.Request) -> web.Response:
        return web.json_response(status_of(source.view()) | dict(source.facts()))

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/status", status)
    return application


def obstacle(view: AgentView) -> str | None:
    """Why no job can be served now; None when one can."""
    if view.draining:
        return "the agent is draining"
    if not view.session_up:
        return "there is no session with the coordinator"
    if view.models == 0:
        return "there is no model to offer: no engine was found, or models.expose and models.hide leave none"
    return None


def status_of(view: AgentView) -> dict[str, object]:
    """The view as plain values."""
    return {
        "agent_version": __version__,
        "ready": obstacle(view) is None,
        "session_up": view.session_up,
        "draining": view.draining,
        "active_jobs": view.active_jobs,
        "max_concurrent": view.max_concurrent,
        "models": view.models,
        "backends": [
            {
                "name": backend.name,
                "kind": backend.kind,
                "healthy": backend.healthy,
                "active_jobs": backend.active_jobs,
                "max_concurrent": backend.max_concurrent,
            }
            for backend in view.backends
        ],
    }
