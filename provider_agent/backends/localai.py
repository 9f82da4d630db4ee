"""LocalAI: many engines behind OpenAI's, Anthropic's, Jina's and Ollama's APIs; tells what each model can do.

It lists models for images and speech, too: those are not offered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item, items, positive, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RERANK,
    RESPONSES,
)

_SERVED_FOR: Final[Mapping[str, frozenset[str]]] = {
    "chat": frozenset({CHAT, RESPONSES, MESSAGES, OLLAMA_CHAT, OLLAMA_GENERATE}),
    "completion": frozenset({COMPLETIONS}),
    "embeddings": frozenset({EMBEDDINGS, OLLAMA_EMBED}),
    "rerank": frozenset({RERANK}),
}
"""By what it calls a capability."""


@dataclass(frozen=True, slots=True)
class _Told:
    capabilities: Mapping[str, Item]
    loaded: frozenset[str] | None


class LocalAIBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "localai"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8080"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_localai

    async def _ask_more(self, listed: Sequence[Item]) -> _Told:  # noqa: ARG002
        capabilities, system = await self._ask_all("/v1/models/capabilities", "/system")
        loaded = items(system, "loaded_models")
        return _Told(
            {text(item, "id"): item for item in items(capabilities, "data") or ()},
            None if loaded is None else frozenset(text(item, "id") for item in loaded),
        )

    def _model(self, item: Item, more: Any) -> BackendModel:
        name = text(item, "id")
        told = more.capabilities.get(name, {})
        endpoints = _endpoints(told.get("capabilities"), self.endpoints)
        return replace(
            super()._model(item, more),
            endpoints=endpoints,
            context_window=positive(told, "context_size"),
            is_embedding=EMBEDDINGS in endpoints and not endpoints & {CHAT, COMPLETIONS},
            is_loaded=None if more.loaded is None else name in more.loaded,
        )


def _endpoints(capabilities: object, otherwise: frozenset[str]) -> frozenset[str]:
    if not isinstance(capabilities, list):
        return otherwise
    known = (each for each in capabilities if isinstance(each, str))
    return frozenset[str]().union(*(_SERVED_FOR.get(each, frozenset()) for each in known))
