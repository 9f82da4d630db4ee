"""KoboldCpp: OpenAI's API beside its own; one model, and one job at a time unless it was started otherwise.

It imitates Ollama's listing, but not all that goes with it. What waits for the one slot waits in silence
(`--multiuser`), and what is too much is refused (503). How many slots there are (`--parallelrequests`) it
tells nobody: that is the operator's to say (`max_concurrent`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, NamedTuple

from provider_agent.backends.base import BackendModel
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.listing import Answers, Item, positive, said_by, text
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS

_WRITES: Final = frozenset({CHAT, COMPLETIONS})
_NO_MODEL: Final = "inactive"


class _Told(NamedTuple):
    version: Item
    context_window: int | None


class KoboldCppBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "koboldcpp"
    default_url: ClassVar[str | None] = "http://127.0.0.1:5001"
    endpoints: ClassVar[frozenset[str]] = _WRITES
    slots: ClassVar[int | None] = 1

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("koboldcpp")

    async def _ask_more(self, listed: Sequence[Item]) -> _Told:  # noqa: ARG002
        version, length = await self._ask_all("/api/extra/version", "/api/extra/true_max_context_length")
        return _Told(said_by(version), positive(said_by(length), "value"))

    def _model(self, item: Item, more: Any) -> BackendModel:
        name = text(item, "id")
        writes = _WRITES if more.version.get("llm") is not False and name != _NO_MODEL else frozenset[str]()
        embeds = {EMBEDDINGS} if more.version.get("embeddings") is True else set[str]()
        return replace(
            super()._model(item, more),
            endpoints=writes | embeds,
            context_window=more.context_window,
            fingerprint=fingerprint(
                model=name if more.context_window else None, context_window=more.context_window
            ),
            is_embedding=bool(embeds) and not writes,
            is_loaded=True,
        )
