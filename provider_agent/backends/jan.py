"""Jan: OpenAI's and Anthropic's API in front of the llama.cpp that it runs itself.

It can also pass jobs on to paid providers that its user has keys for. Only what it runs itself is offered: a
prompt meant for this machine must not end at somebody's paid account.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item, api_title, items, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import MESSAGES

_OWN: Final = frozenset({"user", ""})
"""What it says of models that it runs."""


class JanBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "jan"
    default_url: ClassVar[str | None] = "http://127.0.0.1:1337"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {MESSAGES}

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """By its description of itself, which needs no key."""
        return api_title(answers.api).startswith("Jan API")

    async def _ask_more(self, listed: Sequence[Item]) -> frozenset[str]:  # noqa: ARG002
        """What it could run itself, loaded or not."""
        available = items(await self._ask_or_none("/v1/models/available"), "data")
        return frozenset(text(item, "id") for item in available or ())

    def _model(self, item: Item, more: Any) -> BackendModel:
        is_own = text(item, "owned_by") in _OWN or text(item, "id") in more
        model = super()._model(item, more)  # it lists what runs now
        return replace(model, endpoints=self.endpoints if is_own else frozenset(), is_loaded=True)
