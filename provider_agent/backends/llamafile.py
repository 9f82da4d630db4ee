"""llamafile's own server (0.9): OpenAI's API for the one model that is in the file.

Other versions of llamafile serve with llama.cpp's server, and are taken for that.
"""

from dataclasses import replace
from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel
from provider_agent.backends.listing import Answers, Item
from provider_agent.backends.openai import OpenAIBackend


class LlamafileBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "llamafile"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8080"
    slots: ClassVar[int | None] = 1  # its default, and told nowhere

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("llamafile")

    def _model(self, item: Item, more: Any) -> BackendModel:
        return replace(super()._model(item, more), is_loaded=True)
