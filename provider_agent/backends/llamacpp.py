"""llama.cpp's server: OpenAI's API; `/props` tells its slots.

It does not say whether it was started with `--embeddings`: without, it answers 501, which is
that job's `unsupported_endpoint`. More jobs than slots wait in silence, so the slots are a limit.
"""

from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item, positive, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import RESPONSES


class LlamaCppBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "llamacpp"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8080"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES}

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        server = answers.models.headers.get("server", "") if answers.models else ""
        return answers.is_owned_by("llamacpp") or server.startswith("llama.cpp")

    async def _ask_more(self) -> int | None:
        page = await self._ask_or_none("/props")
        return positive(page.value, "total_slots") if page else None

    def _model(self, item: Item, more: Any) -> BackendModel:
        meta = item.get("meta")
        return BackendModel(
            text(item, "id"),
            self.endpoints,
            context_window=positive(meta, "n_ctx", "n_ctx_train"),
            max_concurrent=more,
        )
