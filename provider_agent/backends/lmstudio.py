"""LM Studio: OpenAI's API; its own listings tell of each model what it is, its context, slots and state."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel
from provider_agent.backends.features import features, listed
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.listing import Answers, Item, below, items, positive, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import MESSAGES, RESPONSES


class LmStudioBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "lmstudio"
    default_url: ClassVar[str | None] = "http://127.0.0.1:1234"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES, MESSAGES}
    slots: ClassVar[int | None] = 1  # before 0.4 it ran one job at a time

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        listed = items(answers.details, "data")
        return listed == () or any("type" in item and "state" in item for item in listed or ())

    async def _ask_more(self, listed: Sequence[Item]) -> Mapping[str, Item]:  # noqa: ARG002
        """By model: what `/api/v0/models` says, and what its instance of `/api/v1/models` (0.4) does."""
        older, newer = await self._ask_all("/api/v0/models", "/api/v1/models")
        details = {text(item, "id"): dict(item) for item in items(older, "data") or ()}
        for item in items(newer, "models") or ():
            instances = item.get("loaded_instances")
            for instance in instances if isinstance(instances, list) else ():
                if isinstance(instance, dict):
                    config = below(instance, "config")
                    details.setdefault(text(instance, "id"), {}).update(
                        loaded_context_length=config.get("context_length"), parallel=config.get("parallel")
                    )
        return details

    def _model(self, item: Item, more: Any) -> BackendModel:
        model_id = text(item, "id")
        details = more.get(model_id, {})
        context_window = positive(details, "loaded_context_length", "max_context_length")
        return BackendModel(
            model_id,
            self.endpoints,
            context_window=context_window,
            max_concurrent=positive(details, "parallel") or self._slots_untold,
            fingerprint=fingerprint(
                **{each: details.get(each) for each in ("publisher", "arch", "quantization")},
                model=model_id if details.get("quantization") else None,
                context_window=context_window if details.get("quantization") else None,
            ),
            is_embedding=details.get("type") == "embeddings",
            features=features(
                vision=details["type"] == "vlm" if "type" in details else None,
                **listed(details.get("capabilities"), tools="tool_use"),
            ),
            is_loaded=details["state"] == "loaded" if "state" in details else None,
        )
