"""Lets web pages of other origins read the answers that clients get (CORS); knows no key and no job.

A page needs a key like everybody else. This is what browsers ask before they pass our answers on to it.
"""

import re
from collections.abc import Collection

from aiohttp import hdrs, web

from provider_agent.coordinator.http.counting import JOB_HEADER, is_clients
from provider_agent.coordinator.http.errors import Handler

EVERY = "*"

MAX_AGE_S = 7200
"""How long a browser need not ask again; none remembers it for longer than a day, most for two hours."""

_METHODS = "GET, HEAD, POST"
_TOLD = f"{JOB_HEADER}, X-Agent, Retry-After"
_NAMES = re.compile(r"[\w-]+( *, *[\w-]+)*", re.ASCII)


class Cors:
    """What pages of these origins may do; without any, nothing is said, and browsers withhold our answers."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)  # as browsers write them

    def add_to(self, app: web.Application) -> None:
        if self._origins:
            app.middlewares.append(self._answer_preflight)
            app.on_response_prepare.append(self._allow)

    @web.middleware
    async def _answer_preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Before a request with a key, a browser asks without it whether the page may send that."""
        asks = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        if not asks or not self._allowed(request):
            return await handler(request)
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(MAX_AGE_S),
        }
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        if _NAMES.fullmatch(wanted):  # by name: "*" means all but the one with the key
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
        return web.Response(status=204, headers=headers)

    async def _allow(self, request: web.Request, response: web.StreamResponse) -> None:
        """Whatever the answer is: a page wants to read refusals, too."""
        if EVERY not in self._origins:
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        allowed = self._allowed(request)
        if allowed:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _TOLD

    def _allowed(self, request: web.Request) -> str:
        """Who may read the answer to this request; "" is nobody else."""
        origin = request.headers.get(hdrs.ORIGIN, "")
        if not origin or not is_clients(request.path):
            return ""
        return EVERY if EVERY in self._origins else origin if origin in self._origins else ""
