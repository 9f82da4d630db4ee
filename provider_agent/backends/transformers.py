"""`transformers serve`: OpenAI's API for what is in the cache of Hugging Face; loads on demand.

It tells neither slots nor context. Its streams end without `[DONE]`. Its list is what is in the cache: where
there is no cache it fails with 500, and a model in a folder of its own is never in it.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel, Call, Reply
from provider_agent.backends.listing import Answers, Item, api_paths, api_title
from provider_agent.backends.named import NamedModelsBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, RESPONSES, without

_ITS_OWN_PATHS: Final = frozenset({"/load_model", "/reset"})
_OPTIONAL: Final = frozenset({COMPLETIONS})


class TransformersBackend(NamedModelsBackend):
    """See the module."""

    kind: ClassVar[str] = "transformers"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8000"
    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, RESPONSES})
    no_list_status: ClassVar[int | None] = HTTPStatus.INTERNAL_SERVER_ERROR

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """By its description of itself: it has no name, but two paths that nobody else has together."""
        return api_title(answers.api) == "FastAPI" and (api_paths(answers.api) or set()) >= _ITS_OWN_PATHS

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """It gives one answer, whatever `n` says: nobody waits for a second one to end."""
        return super().open(call._replace(body=without(call.body, "n")))

    async def _ask_more(self, listed: Sequence[Item]) -> frozenset[str] | None:  # noqa: ARG002
        return api_paths(await self._ask_or_none("/openapi.json"))

    def _model(self, item: Item, more: Any) -> BackendModel:
        endpoints = self.endpoints if more is None else (self.endpoints | _OPTIONAL) & more
        return replace(super()._model(item, more), endpoints=endpoints)
