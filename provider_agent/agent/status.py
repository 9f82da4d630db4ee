"""Local HTTP for whoever watches this process: health, readiness, metrics, status; knows no job.

`/healthz` says that the process lives, and nothing else may make it fail; `/readyz` that it can serve.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from provider_agent import __version__
from provider_agent.agent.pages import Page, Pages, serving
from provider_agent.telemetry.logs import get_logger
from provider_agent.telemetry.metrics import CONTENT_TYPE, AgentView
from provider_agent.transport.dialling import in_words

_log = get_logger(__name__)

_JSON = "application/json; charset=utf-8"


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
    async with AsyncExitStack() as stack:
        yield await _listen(stack, source, address)


async def _listen(stack: AsyncExitStack, source: StatusSource, address: tuple[str, int]) -> int | None:
    host, port = address
    try:
        _, bound = await stack.enter_async_context(serving(pages_of(source), host, port))
    except OSError as error:
        _log.warning(
            "status_page_off",
            address=f"{host}:{port}",
            reason=in_words(error),
            remedy='set telemetry.status_listen to a free port, or to "" to do without',
        )
        return None
    _log.info("status_page_on", address=f"{host}:{bound}")
    return bound


def pages_of(source: StatusSource) -> Pages:
    """Path by path."""

    def readyz() -> Page:
        why_not = obstacle(source.view())
        if why_not is None:
            return _json({"ready": True})
        return _json({"ready": False, "reason": why_not}, HTTPStatus.SERVICE_UNAVAILABLE)

    return {
        "/healthz": lambda: _json({"status": "ok"}),
        "/readyz": readyz,
        "/metrics": lambda: Page(source.render_metrics(), CONTENT_TYPE),
        "/status": lambda: _json(status_of(source.view()) | dict(source.facts())),
    }


def _json(value: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Page:
    return Page(msgspec.json.encode(value), _JSON, status)


def obstacle(view: AgentView) -> str | None:
    """Why no job can be served now; None when one can."""
    if view.draining:
        return "the agent is draining"
    if not view.session_up:
        return f"there is no session with the coordinator{_because(view.why_no_session)}"
    if view.paused:
        return f"paused: {view.paused}"
    if view.models == 0:
        return "there is no model to offer: no engine was found, or models.expose and models.hide leave none"
    return None


def _because(why: str) -> str:
    return f": {why}" if why else ""


def status_of(view: AgentView) -> dict[str, object]:
    """The view as plain values."""
    return {
        "agent_version": __version__,
        "ready": obstacle(view) is None,
        "reason": obstacle(view),
        "session_up": view.session_up,
        "draining": view.draining,
        "paused": view.paused or None,
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
