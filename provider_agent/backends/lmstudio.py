"""LM Studio: OpenAI's API; its own listing tells which models embed, and how long a context they take."""

from collections.abc import Mapping
from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item, items, positive, text
from provider_agent.backends.openai import OpenAIBackend


class LmStudioBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "lmstudio"
    default_url: ClassVar[str | None] = "http://127.0.0.1:1234"

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        listed = items(answers.details, "data")
        return listed is not None and all("type" in item and "state" in item for item in listed)

    async def _ask_more(self) -> Mapping[str, Item]:
        listed = items(await self._ask_or_none("/api/v0/models"), "data")
        return {text(item, "id"): item for item in listed or ()}

    def _model(self, item: Item, more: Any) -> BackendModel:
        model_id = text(item, "id")
        details = more.get(model_id, {})
        return BackendModel(
            model_id,
            self.endpoints,
            context_window=positive(details, "loaded_context_length", "max_context_length"),
            is_embedding=details.get("type") == "embeddings",
        )
