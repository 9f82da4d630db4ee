"""Counts the answers of clients' requests that never became a job; knows no job and no agent."""

import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from provider_agent.telemetry.metrics import CoordinatorMetrics

JOB_HEADER = "X-Job-Id"
UNKNOWN_ROUTE = "other"

_CLIENTS = ("/v1/", "/api/")
_AGENTS = "/v1/agents/"


def count_jobless(metrics: CoordinatorMetrics, *, clock: Callable[[], float] = time.monotonic) -> Middleware:
    """A middleware, to be the outermost one: a wrong key or a malformed body counts as a request, too.

    What became a job has `X-Job-Id`, and is counted when the job ends.
    """

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s = clock()
        response = await handler(request)
        if JOB_HEADER not in response.headers and is_clients(request.path):
            duration_s = clock() - began_s
            metrics.request_ended(endpoint=_endpoint(request), status=response.status, duration_s=duration_s)
        return response

    return count


def is_clients(path: str) -> bool:
    return path.startswith(_CLIENTS) and not path.startswith(_AGENTS)


def _endpoint(request: web.Request) -> str:
    """The route as we wrote it: a path as it came would let anybody make up labels."""
    resource = request.match_info.route.resource
    return UNKNOWN_ROUTE if resource is None else resource.canonical
