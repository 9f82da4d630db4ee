"""SGLang: OpenAI's API; `/get_model_info` tells whether its one model generates or embeds."""

from dataclasses import replace
from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item
from provider_agent.backends.openai import OpenAIBackend


class SglangBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "sglang"
    default_url: ClassVar[str | None] = "http://127.0.0.1:30000"

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("sglang")

    async def _ask_more(self) -> bool:
        """Whether the model embeds."""
        page = await self._ask_or_none("/get_model_info")
        info = page.value if page else None
        return isinstance(info, dict) and info.get("is_generation") is False

    def _model(self, item: Item, more: Any) -> BackendModel:
        return replace(super()._model(item, more), is_embedding=more)
