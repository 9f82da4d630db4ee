"""OpenAI's endpoints over the whole fleet, and rerank, which came to stand beside them; knows no agent."""

from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.fleet import endpoints_of, features_of
from provider_agent.coordinator.http.dialect import OPENAI
from provider_agent.coordinator.http.errors import error_response
from provider_agent.coordinator.http.serving import KEEPALIVE_S, Serving, page
from provider_agent.protocol.frames import ModelOffer

JOB_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
)


class OpenAIDoor:
    """Serves clients that speak OpenAI's API."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        *,
        keepalive_s: float = KEEPALIVE_S,
        created: int = 0,
    ) -> None:
        self._fleet = dispatcher.fleet
        self._serving = Serving(OPENAI, dispatcher, admission, keepalive_s=keepalive_s)
        self._created = created

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{model_id:.+}", self._show_model)
        for path in JOB_PATHS:
            app.router.add_post(path, self._serving.serve)

    async def _list_models(self, request: web.Request) -> web.Response:
        await self._serving.admit(request)
        data = [self._model(model_id, offers) for model_id, offers in self._fleet.models.items()]
        return page({"object": "list", "data": data})

    async def _show_model(self, request: web.Request) -> web.Response:
        await self._serving.admit(request)
        model_id = self._serving.model_of(request.match_info["model_id"])
        offers = self._fleet.models.get(model_id)
        if offers is None:
            return error_response(
                404, "model_not_found", f"no agent serves the model {model_id[:128]!r}", param="model"
            )
        return page(self._model(model_id, offers))

    def _model(self, model_id: str, offers: tuple[ModelOffer, ...]) -> dict[str, object]:
        windows = [offer.context_window for offer in offers if offer.context_window is not None]
        return {
            "id": model_id,
            "object": "model",
            "created": self._created,
            "owned_by": "provider-agent",
            "context_window": min(windows, default=None),
            "endpoints": endpoints_of(offers),
            "features": features_of(offers),
        }
