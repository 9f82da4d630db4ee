"""Engines whose list is what is in the cache of Hugging Face; knows no engine by name.

Where there is no cache they have no list, and a model in a folder of its own may never be in it. So those
that the operator calls by their whole name are served, whether they are listed or not.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendFailed, BackendModel, BackendSettings
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import is_name
from provider_agent.backends.openai import OpenAIBackend

_GLOB_SIGNS: Final = frozenset("*?[")
_NO_LIST: Final = (
    "the engine's list of models fails, as it does without a cache of Hugging Face; "
    "name its models in full under `models` of this backend"
)


class NamedModelsBackend(OpenAIBackend):
    """See the module.

    Attributes:
        no_list_status: of the error that its list is without a cache.
    """

    no_list_status: ClassVar[int | None] = None

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self._named = [each for each in settings.models if is_name(each) and not _GLOB_SIGNS & set(each)]

    async def list_models(self) -> tuple[BackendModel, ...]:
        try:
            listed = await super().list_models()
        except BackendFailed as error:
            if error.http_status != self.no_list_status:
                raise
            if not self._named:
                raise BackendFailed(_NO_LIST, http_status=error.http_status) from error
            listed = ()
        known = {model.model_id for model in listed}
        more = await self._ask_more(()) if not known.issuperset(self._named) else None
        unlisted: list[Mapping[str, Any]] = [{"id": each} for each in self._named if each not in known]
        models = (*listed, *(self._model(item, more) for item in unlisted))
        return tuple(sorted(models, key=lambda model: model.model_id))
