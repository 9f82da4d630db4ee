"""Any engine with OpenAI's API, and what its families have in common; knows no quirk of theirs."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, ClassVar, Final

from provider_agent.backends.base import (
    BackendError,
    BackendFailed,
    BackendModel,
    BackendSettings,
    Call,
    EndpointUnsupported,
    Reply,
)
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import Answers, Item, by_name, items, positive, text
from provider_agent.backends.question import shortest_question
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

ENDPOINTS: Final = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})
ASK_TIMEOUT_S: Final = 5.0
_NAMED_AT_ONCE: Final = 10
"""How many models that cannot be offered are named in the log after one look."""


class OpenAIBackend:
    """A `Backend` (see `base.py`) for engines of which nothing else is known.

    Attributes:
        endpoints: what the family serves, as far as it does not tell more precisely.
        slots: how many jobs a model runs at once where neither the engine tells nor the operator says.
        patience_s: with pages that are good to know and not needed. A busy engine may keep one back, and must
            not be taken for dead because of that.
        is_remote: it is somebody else's, who wants money for it: found by nobody, asked last.
        known_again_by: of `QUESTIONS`, the one that tells that it is still itself, for an engine whose work a
            question for its models would disturb.
    """

    kind: ClassVar[str] = "openai"
    default_url: ClassVar[str | None] = None
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS
    slots: ClassVar[int | None] = None
    patience_s: ClassVar[float] = 1.5
    is_remote: ClassVar[bool] = False
    known_again_by: ClassVar[str | None] = None

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        self.name = name
        self.url = url
        self.max_concurrent = settings.max_concurrent
        self.priority = settings.priority
        self.standby = settings.standby
        self.aliases = settings.aliases
        self._http = http
        self._api_key = settings.api_key
        self._left_out: frozenset[str] = frozenset()

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """A listing in OpenAI's form, with a name in it."""
        models = items(answers.models, "data")
        said = answers.models.value if answers.models else None
        is_list = isinstance(said, dict) and said.get("object") == "list"
        return is_list and any(text(item, "id") for item in models or ())

    async def list_models(self) -> tuple[BackendModel, ...]:
        page = await self._ask("/v1/models")
        page.require()
        listed = items(page, "data")
        if listed is None:
            raise BackendFailed("the engine's list of models is none")
        usable = self._usable(listed, "id")
        more = await self._ask_more(tuple(usable.values()))
        models = [self._model(item, more) for item in usable.values()]
        return tuple(sorted((each for each in models if each.endpoints), key=lambda model: model.model_id))

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """One that the engine calls unloaded answers one token: all engines that load on demand do then."""
        question = shortest_question(model.model_id, model.endpoints, is_embedding=model.is_embedding)
        if model.is_loaded is False and question is not None:
            with suppress(EndpointUnsupported):  # says the model, which is loaded by now
                await self._demand(*question, within_s=within_s)

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        return self._http.open(self.url, call, self._api_key)

    async def _ask_more(self, listed: Sequence[Item]) -> Any:
        """What this family tells elsewhere about its models; must not raise."""
        del listed

    def _model(self, item: Item, more: Any) -> BackendModel:  # noqa: ARG002 - `more` is the families'
        """One without endpoints is not offered."""
        return BackendModel(
            text(item, "id"),
            self.endpoints,
            context_window=positive(
                item, "max_model_len", "context_length", "context_window", "max_context_length"
            ),
            max_concurrent=self._slots_untold,
        )

    @property
    def _slots_untold(self) -> int | None:
        """Slots of a model of which the engine tells none: what the operator says is limit enough."""
        return self.slots if self.max_concurrent is None else None

    def _usable(self, listed: Sequence[Item], *names: str) -> dict[str, Item]:
        """The models that can be offered, by name. Of each other one the operator hears once."""
        usable, left_out = by_name(listed, *names)
        for model in sorted(left_out.keys() - self._left_out)[:_NAMED_AT_ONCE]:
            log.warning("model_left_out", backend=self.name, model_id=model, reason=left_out[model])
        self._left_out = frozenset(left_out)
        return usable

    async def _ask(self, path: str, body: bytes | None = None) -> Page:
        return await self._http.ask(self.url, path, body=body, api_key=self._api_key, timeout_s=ASK_TIMEOUT_S)

    async def _demand(self, path: str, body: bytes, *, within_s: float) -> None:
        """Have it do something whose result is of no interest. Raises BackendError."""
        page = await self._http.ask(self.url, path, body=body, api_key=self._api_key, timeout_s=within_s)
        page.require_success()

    async def _ask_or_none(
        self, path: str, body: bytes | None = None, *, url: str | None = None
    ) -> Page | None:
        """For what is good to know and not needed; `url` is another base than its own."""
        try:
            return await self._http.ask(
                url or self.url, path, body=body, api_key=self._api_key, timeout_s=self.patience_s
            )
        except BackendError:
            return None

    async def _ask_all(self, *paths: str, url: str | None = None) -> list[Page | None]:
        """The same, all at once."""
        return await asyncio.gather(*(self._ask_or_none(path, url=url) for path in paths))
