"""vLLM: OpenAI's API; tells a model's context window as `max_model_len`, and fills its batches by itself.

Its OpenAPI description tells which endpoints it serves: a pooling model has no chat.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.listing import Answers, Item, api_paths, positive
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import CHAT, EMBEDDINGS, MESSAGES, RERANK, RESPONSES

_IF_DESCRIBED: Final = frozenset({MESSAGES, RERANK})
"""Not in every version, or not for every model: offered only where the description has them."""


class VllmBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "vllm"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8000"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES}

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("vllm")

    async def _ask_more(self, listed: Sequence[Item]) -> frozenset[str] | None:  # noqa: ARG002
        """The paths that it has; None when it does not describe itself."""
        return api_paths(await self._ask_or_none("/openapi.json"))

    def _model(self, item: Item, more: Any) -> BackendModel:
        model = super()._model(item, more)
        endpoints = described(self.endpoints, more)
        return replace(
            model,
            endpoints=endpoints,
            fingerprint=fingerprint(root=item.get("root"), context_window=positive(item, "max_model_len")),
            is_embedding=CHAT not in endpoints and EMBEDDINGS in endpoints,
            is_loaded=True,
        )


def described(endpoints: frozenset[str], paths: frozenset[str] | None) -> frozenset[str]:
    """What a family serves, made precise by the paths that one engine describes."""
    return endpoints if paths is None else (endpoints | _IF_DESCRIBED) & paths
