"""`transformers serve`: OpenAI's API for what is in the cache of Hugging Face; loads on demand.

It tells neither slots nor context. Its streams end without `[DONE]`. Its list is what is in the cache: where
there is no cache it fails with 500, and a model in a folder of its own is never in it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendFailed, BackendModel, BackendSettings, Call, Reply
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import Answers, Item, api_paths, api_title, is_name
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, RESPONSES, without

_ITS_OWN_PATHS: Final = frozenset({"/load_model", "/reset"})
_OPTIONAL: Final = frozenset({COMPLETIONS})
_GLOB_SIGNS: Final = frozenset("*?[")
_NO_LIST: Final = (
    "the engine's list of models fails, as it does without a cache of Hugging Face; "
    "name its models in full under `models` of this backend"
)


class TransformersBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "transformers"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8000"
    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, RESPONSES})

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self._named = [each for each in settings.models if is_name(each) and not _GLOB_SIGNS & set(each)]

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """By its description of itself: it has no name, but two paths that nobody else has together."""
        return api_title(answers.api) == "FastAPI" and (api_paths(answers.api) or set()) >= _ITS_OWN_PATHS

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """It gives one answer, whatever `n` says: nobody waits for a second one to end."""
        return super().open(call._replace(body=without(call.body, "n")))

    async def list_models(self) -> tuple[BackendModel, ...]:
        """Those that the operator calls by their whole name are served, whether they are listed or not."""
        try:
            listed = await super().list_models()
        except BackendFailed as error:
            if error.http_status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            if not self._named:
                raise BackendFailed(_NO_LIST, http_status=error.http_status) from error
            listed = ()
        known = {model.model_id for model in listed}
        more = await self._ask_more(()) if not known.issuperset(self._named) else None
        unlisted: list[Mapping[str, Any]] = [{"id": each} for each in self._named if each not in known]
        models = (*listed, *(self._model(item, more) for item in unlisted))
        return tuple(sorted(models, key=lambda model: model.model_id))

    async def _ask_more(self, listed: Sequence[Item]) -> frozenset[str] | None:  # noqa: ARG002
        return api_paths(await self._ask_or_none("/openapi.json"))

    def _model(self, item: Item, more: Any) -> BackendModel:
        endpoints = self.endpoints if more is None else (self.endpoints | _OPTIONAL) & more
        return replace(super()._model(item, more), endpoints=endpoints)
