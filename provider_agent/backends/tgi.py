"""Hugging Face's Text Generation Inference: `/info` tells its one model, revision, context and limit of jobs.

It refuses (429) what is beyond that limit, and calls its model whatever the request calls it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.listing import Answers, Item, positive, said_by, text
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.request import CHAT, COMPLETIONS

_ALWAYS_TOLD: Final = ("model_id", "max_total_tokens", "max_concurrent_requests")


class TgiBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "tgi"
    default_url: ClassVar[str | None] = "http://127.0.0.1:3000"
    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, COMPLETIONS})

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """Its sister for embeddings has an `/info`, too, but counts no total of tokens."""
        info = said_by(answers.info)
        return all(name in info for name in _ALWAYS_TOLD) and "model_type" not in info

    async def _ask_more(self, listed: Sequence[Item]) -> Item:  # noqa: ARG002
        return said_by(await self._ask_or_none("/info"))

    def _model(self, item: Item, more: Any) -> BackendModel:
        context_window = positive(more, "max_total_tokens")
        return replace(
            super()._model(item, more),
            context_window=context_window,
            max_concurrent=positive(more, "max_concurrent_requests"),
            fingerprint=fingerprint(
                **{each: text(more, each) for each in ("model_id", "model_sha", "model_dtype")},
                context_window=context_window,
            ),
            is_loaded=True,
        )
