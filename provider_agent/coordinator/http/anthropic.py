"""Anthropic's messages over the whole fleet; knows no agent and no event of theirs."""

from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.http.dialect import ANTHROPIC
from provider_agent.coordinator.http.serving import KEEPALIVE_S, Serving
from provider_agent.coordinator.jobs import MESSAGES


class AnthropicDoor:
    """Serves clients that speak Anthropic's API; models are listed in OpenAI's form alone."""

    def __init__(
        self, dispatcher: Dispatcher, admission: Admission, *, keepalive_s: float = KEEPALIVE_S
    ) -> None:
        self._serving = Serving(ANTHROPIC, dispatcher, admission, keepalive_s=keepalive_s)

    def add_to(self, app: web.Application) -> None:
        app.router.add_post(MESSAGES, self._serving.serve)
