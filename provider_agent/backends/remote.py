"""A paid provider elsewhere with OpenAI's API (OpenRouter, Venice, any other), which the operator names.

It is never found by itself, and never asked while a local engine can take the job: its prompts leave this
machine, and its tokens are paid for.
"""

from dataclasses import replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel, BackendSettings
from provider_agent.backends.features import features, listed
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import Answers, Item, below, items, positive
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS

_BEHIND_ALL_OTHERS: Final = 1 << 48
"""Added to the operator's priority: no local engine's comes near it."""

_OWNERS: Final = (
    "openai", "openai-internal", "system", "anthropic", "google", "azure", "openrouter", "venice.ai",
)  # fmt: skip

_SERVED_FOR: Final = {"text": frozenset({CHAT, COMPLETIONS}), "embedding": frozenset({EMBEDDINGS})}
"""By what kind of model it is called."""

_KINDS: Final = frozenset(
    {*_SERVED_FOR, "image", "video", "music", "tts", "asr", "upscale", "inpaint", "audio"}
)


class RemoteBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "remote"
    is_remote: ClassVar[bool] = True

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self.priority = _BEHIND_ALL_OTHERS + settings.priority

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """It names a price, or an owner that serves nothing on anybody's own machine."""
        listed = items(answers.models, "data") or ()
        return answers.is_owned_by(*_OWNERS) or any(
            "pricing" in item or "pricing" in below(item, "model_spec") for item in listed
        )

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """Never: it would cost the operator money."""

    def _model(self, item: Item, more: Any) -> BackendModel:
        model = super()._model(item, more)
        endpoints = _endpoints(item, self.endpoints)
        return replace(
            model,
            endpoints=endpoints,
            context_window=model.context_window
            or positive(below(item, "model_spec"), "availableContextTokens"),
            is_embedding=EMBEDDINGS in endpoints and CHAT not in endpoints,
            features=_features(item),
        )


def _features(item: Item) -> frozenset[str] | None:
    """As OpenRouter says it, or as Venice does."""
    known = below(below(item, "model_spec"), "capabilities")
    if known:
        words = {
            "tools": "supportsFunctionCalling",
            "vision": "supportsVision",
            "thinking": "supportsReasoning",
        }
        return features(**{feature: known.get(word) for feature, word in words.items()})
    return features(
        **listed(item.get("supported_parameters"), tools="tools", thinking="reasoning"),
        **listed(below(item, "architecture").get("input_modalities"), vision="image", audio="audio"),
    )


def _endpoints(item: Item, otherwise: frozenset[str]) -> frozenset[str]:
    """For models of another kind, such as for images, none."""
    modalities = below(item, "architecture").get("output_modalities")
    if isinstance(modalities, list):
        if "text" in modalities:
            return otherwise - {EMBEDDINGS}
        return frozenset({EMBEDDINGS}) if "embeddings" in modalities else frozenset()
    kind = item.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        return otherwise
    return _SERVED_FOR.get(kind, frozenset())
