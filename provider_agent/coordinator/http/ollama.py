"""Ollama's own API over the whole fleet, for models that engines serve at it; translates nothing."""

from typing import NoReturn

import msgspec
from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.http import ollama_models
from provider_agent.coordinator.http.body import receive_body
from provider_agent.coordinator.http.dialect import OLLAMA
from provider_agent.coordinator.http.errors import RequestError
from provider_agent.coordinator.http.naming import meant
from provider_agent.coordinator.http.ollama_models import CHAT, EMBED, GENERATE
from provider_agent.coordinator.http.serving import KEEPALIVE_S, Serving, page

VERSION = "0.14.0"
"""The first Ollama that has all of what is served here, `/v1/messages` being the latest of it.

Clients compare it with the least that they work with, so ours would be taken for a very old Ollama.
"""

ALIVE = "provider-agent is running"

_ELSEWHERE = "models are managed on the machines of the agents, not here"
_REFUSED = {
    "/api/pull": _ELSEWHERE,
    "/api/push": _ELSEWHERE,
    "/api/create": _ELSEWHERE,
    "/api/copy": _ELSEWHERE,
    "/api/delete": _ELSEWHERE,
    "/api/blobs/{digest}": _ELSEWHERE,
    "/api/embeddings": f"this older endpoint is not served, {EMBED} is",
}


class _Asked(msgspec.Struct):
    """What `/api/show` is asked; older clients say `name`."""

    model: str = ""
    name: str = ""


_asked = msgspec.json.Decoder(_Asked)


class OllamaDoor:
    """Serves clients that speak Ollama's API."""

    def __init__(
        self, dispatcher: Dispatcher, admission: Admission, *, keepalive_s: float = KEEPALIVE_S
    ) -> None:
        self._fleet = dispatcher.fleet
        self._serving = Serving(OLLAMA, dispatcher, admission, keepalive_s=keepalive_s)

    def add_to(self, app: web.Application) -> None:
        app.router.add_post(CHAT, self._serve_stream)
        app.router.add_post(GENERATE, self._serve_stream)
        app.router.add_post(EMBED, self._serve_whole)
        app.router.add_get("/", self._greet)
        app.router.add_get("/api/tags", self._list)
        app.router.add_get("/api/ps", self._list_running)
        app.router.add_post("/api/show", self._show)
        app.router.add_get("/api/version", self._tell_version)
        for path in _REFUSED:
            app.router.add_route("*", path, self._refuse)

    # --- jobs -----------------------------------------------------------------------------

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._serving.serve(request, streams_unless_told=True, model_of=self._meant)

    async def _serve_whole(self, request: web.Request) -> web.StreamResponse:
        return await self._serving.serve(request, model_of=self._meant)

    def _meant(self, name: str) -> str:
        """One that is served at other endpoints only is meant, too: its refusal says where."""
        model_id = meant(self._fleet, name, ollama_models.is_native)
        if model_id is None:
            raise RequestError(404, "model_not_found", f"model '{name[:128]}' not found")
        return model_id

    # --- models ---------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        await self._serving.admit(request)
        return page(ollama_models.tags(self._fleet.models))

    async def _list_running(self, request: web.Request) -> web.Response:
        await self._serving.admit(request)
        return page(ollama_models.running(self._fleet.models))

    async def _show(self, request: web.Request) -> web.Response:
        await self._serving.admit(request)
        try:
            asked = _asked.decode(await receive_body(request))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise RequestError(400, "invalid_json", "the request body is not a JSON object") from None
        name = asked.model or asked.name
        if not name:
            raise RequestError(400, "missing_required_parameter", "model is required")
        model_id = self._meant(name)
        offers = [each.offers[model_id] for each in self._fleet.having(model_id)]
        if not any(map(ollama_models.is_native, offers)):
            message = f"model '{name[:128]}' is not served at Ollama's endpoints{'' if offers else ' now'}"
            raise RequestError(404, "model_not_found", message)
        return page(ollama_models.shown(offers))

    async def _tell_version(self, request: web.Request) -> web.Response:
        """That of the API: which Ollama serves a request is not known before."""
        await self._serving.admit(request)
        return page({"version": VERSION})

    async def _greet(self, _request: web.Request) -> web.Response:
        """Ollama's own program asks this before all else, and has no key."""
        return web.Response(text=ALIVE)

    async def _refuse(self, request: web.Request) -> NoReturn:
        await self._serving.admit(request)
        resource = request.match_info.route.resource
        why = _REFUSED[resource.canonical] if resource is not None else _ELSEWHERE
        raise RequestError(501, "not_implemented", why)
