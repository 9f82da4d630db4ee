"""llama-cpp-python's server (`python -m llama_cpp.server`): one job at a time, whatever it is asked.

It has one lock for all. Whoever asks for it, if only for the list of models, waits for the job that has it;
and if that job streams, it is broken off, with `[DONE]` as if it were whole (`interrupt_requests`, on unless
it was turned off). A model's name that it does not know it takes for its first model's. Hence:

1. It is asked for its models once for each of its processes, which a connection that nobody uses tells apart;
   else for the description of itself, which needs no lock. Others who use it keep their answers.
2. A job is not given to another process before that has told its models, and only if it has the job's.
3. Its jobs go one after the other, whatever the operator allows.
4. A stream that ends without a finish reason was broken off by somebody else.

Seen at 0.3.36. Its streams are not counted.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final

import msgspec

from provider_agent.backends.base import (
    BackendModel,
    BackendSettings,
    Call,
    FirstByteTimeout,
    ModelNotFound,
    Reply,
)
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import QUESTIONS, Answers, Item, api_title, items, text
from provider_agent.backends.openai import ASK_TIMEOUT_S, OpenAIBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS

_TITLE: Final = "llama.cpp Python API"
_DESCRIPTION: Final = "api"


class LlamaCppPythonBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "llamacpp-python"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8000"
    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, COMPLETIONS})
    known_again_by: ClassVar[str | None] = _DESCRIPTION

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self.max_concurrent = 1  # 3
        self._turn = asyncio.Lock()
        self._listed: tuple[BackendModel, ...] = ()

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return _TITLE in api_title(answers.api)

    async def list_models(self) -> tuple[BackendModel, ...]:
        if not (self._listed and await self._is_still_there()):
            self._listed = ()  # until this process has told its own
            await self._http.hold(self.url, timeout_s=ASK_TIMEOUT_S)  # first: it may end meanwhile
            self._listed = await super().list_models()
        return self._listed

    async def _is_still_there(self) -> bool:
        if self._turn.locked():  # a job of ours is there, and will tell
            return True
        if not self._http.holds(self.url):
            return False
        return self.recognises(Answers(api=await self._ask(QUESTIONS[_DESCRIPTION])))

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Reply]:
        try:
            async with asyncio.timeout(call.first_byte_timeout_s):
                await self._turn.acquire()
        except TimeoutError:
            raise FirstByteTimeout("the engine had another job all the time") from None
        try:
            await self._require(call)
            async with self._http.open(self.url, call, self._api_key, must_finish=True) as reply:  # 4
                yield reply
        finally:
            self._turn.release()

    async def _require(self, call: Call) -> None:
        """The model is still there. Raises BackendError."""
        if self._http.holds(self.url) and call.model in {model.model_id for model in self._listed}:
            return
        within_s = call.first_byte_timeout_s
        try:
            async with asyncio.timeout(within_s):
                page = await self._http.ask(
                    self.url, "/v1/models", api_key=self._api_key, timeout_s=2 * within_s
                )
        except TimeoutError:
            raise FirstByteTimeout(
                f"the engine was busy with somebody else's job for {within_s:g} s"
            ) from None
        page.require()
        if call.model not in {text(item, "id") for item in items(page, "data") or ()}:
            raise ModelNotFound("the engine has other models by now")

    async def _ask_more(self, listed: Sequence[Item]) -> tuple[bool, bool]:
        """Whether it has one model only, and whether that embeds: with several, to ask would load it."""
        if len(listed) != 1:
            return False, False
        body = msgspec.json.encode({"model": text(listed[0], "id"), "input": "Hi"})
        return True, _is_vector(await self._ask_or_none(EMBEDDINGS, body))

    def _model(self, item: Item, more: Any) -> BackendModel:
        is_only, embeds = more
        return replace(
            super()._model(item, more),
            endpoints=self.endpoints | ({EMBEDDINGS} if embeds else set()),
            max_concurrent=1,  # 3
            is_loaded=True if is_only else None,
        )


def _is_vector(page: Page | None) -> bool:
    """One for the whole text: a model that was not made to embed gives one for each token."""
    first = next(iter(items(page, "data") or ()), {})
    vector = first.get("embedding")
    return isinstance(vector, list) and bool(vector) and isinstance(vector[0], int | float)
