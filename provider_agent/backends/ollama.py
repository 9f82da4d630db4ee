"""Ollama: its own API beside OpenAI's; lists what is on disk, loads on demand, tells each model's digest.

It runs `OLLAMA_NUM_PARALLEL` jobs of a model at once, lets the others wait in silence, and tells nobody how
many that are: one, as is its default, unless the operator says otherwise (`max_concurrent`).

It unloads a model that was not used for five minutes, or for as long as the last request said.

Models that it only forwards to a remote service (`remote_host`) are never listed: a prompt meant
for this machine must not end at somebody's paid account.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final

import msgspec

from provider_agent.backends.base import BackendError, BackendFailed, BackendModel, BackendSettings
from provider_agent.backends.features import features, listed
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import Answers, Item, items, positive, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import MESSAGES, OLLAMA_CHAT, OLLAMA_EMBED, OLLAMA_GENERATE, RESPONSES

_FEATURES: Final = ("tools", "vision", "audio", "thinking")

_QUESTIONS_AT_ONCE: Final = 8

_KEPT: Final = "15m"
"""How long a model stays that is kept warm. Finite: an agent that is gone must not hold memory for ever."""

_RENEWED_BELOW_S: Final = 120.0
"""As late as possible: a renewal loads a model anew that a client has with another context window, which does
no harm once it has been idle for minutes."""


class OllamaBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "ollama"
    default_url: ClassVar[str | None] = "http://127.0.0.1:11434"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {
        RESPONSES,
        MESSAGES,
        OLLAMA_CHAT,
        OLLAMA_GENERATE,
        OLLAMA_EMBED,
    }
    slots: ClassVar[int | None] = 1

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self._shown: Mapping[tuple[str, str], Item] = {}  # by name and digest: they do not change

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """By its own listing. Others imitate it, but not the owners that Ollama names in OpenAI's."""
        listed = items(answers.tags, "models")
        if listed is None or answers.is_localai or answers.is_owned_by("koboldcpp", "docker"):
            return False
        models = items(answers.models, "data")
        if models and not any(text(item, "owned_by") for item in models):
            return False  # LocalAI again, whose own pages did not come in time
        return not listed or any(text(item, "name", "model") and "details" in item for item in listed)

    async def list_models(self) -> tuple[BackendModel, ...]:
        page = await self._ask("/api/tags")
        page.require()
        listed = items(page, "models")
        if listed is None:
            raise BackendFailed("the engine's list of models is none")
        own = [item for item in listed if not _is_remote(item)]
        local = list(self._usable(own, "name", "model").values())
        loaded, _ = await asyncio.gather(self._loaded(), self._look_at(local))
        models = [
            replace(
                self._model(item, self._shown.get(_identity(item), {})),
                is_loaded=None if loaded is None else text(item, "name", "model") in loaded,
            )
            for item in local
        ]
        return tuple(sorted(models, key=lambda model: model.model_id))

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """A request without a prompt loads the model, or says only how long it is to stay."""
        if await self._stays(model.model_id):
            return
        path, name, nothing = OLLAMA_GENERATE, "prompt", ""
        if model.is_embedding:
            path, name, nothing = OLLAMA_EMBED, "input", ""
        asked = {"model": model.model_id, name: nothing, "keep_alive": _KEPT, "stream": False}
        await self._demand(path, msgspec.json.encode(asked), within_s=within_s)

    async def _stays(self, name: str) -> bool:
        """Whether the model is in memory, and not about to leave. Jobs bring the default time back."""
        page = await self._ask_or_none("/api/ps")
        running = {text(item, "name", "model"): item for item in items(page, "models") or ()}
        if page is None or name not in running:
            return False
        left_s = _left_s(text(running[name], "expires_at"), page.headers.get("date", ""))
        return left_s is not None and left_s > _RENEWED_BELOW_S

    async def _loaded(self) -> frozenset[str] | None:
        """The models that are in memory; None when it does not say."""
        running = items(await self._ask_or_none("/api/ps"), "models")
        return None if running is None else frozenset(text(item, "name", "model") for item in running)

    async def _look_at(self, local: list[Item]) -> None:
        """Ask once for the details of each model that the listing did not give; forget those that went.

        What did not come in time is asked again at the next look: no model is worth all the others.
        """
        few = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        known = {_identity(item): self._shown.get(_identity(item)) for item in local}

        async def show(key: tuple[str, str]) -> None:
            async with few:
                known[key] = await self._show(key[0])

        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience_s), asyncio.TaskGroup() as group:
                for key, shown in tuple(known.items()):
                    if shown is None:
                        group.create_task(show(key))
        self._shown = {key: shown for key, shown in known.items() if shown is not None}

    async def _show(self, name: str) -> Item | None:
        """A model's details; None when they cannot be had now."""
        try:
            value = (await self._ask("/api/show", msgspec.json.encode({"model": name}))).require()
        except BackendError:
            return None
        return value if isinstance(value, dict) else None

    def _model(self, item: Item, more: Any) -> BackendModel:
        said = item.get("capabilities") or more.get("capabilities")
        capabilities = said if isinstance(said, list) else ()
        digest = text(item, "digest").removeprefix("sha256:")
        return BackendModel(
            text(item, "name", "model"),
            self.endpoints,
            context_window=_context_window(item, more),
            max_concurrent=self._slots_untold,
            fingerprint=f"sha256:{digest}" if digest else None,
            is_embedding="embedding" in capabilities and "completion" not in capabilities,
            features=features(**listed(said, **{each: each for each in _FEATURES})),
        )


def _identity(item: Item) -> tuple[str, str]:
    return text(item, "name", "model"), text(item, "digest")


def _is_remote(item: Item) -> bool:
    return bool(item.get("remote_host") or item.get("remote_model"))


def _left_s(expires_at: str, date: str) -> float | None:
    """Time until then by the engine's own clock, which its answer is dated by; ours may differ."""
    try:
        return (datetime.fromisoformat(expires_at) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: one of them names no time zone
        return None


def _context_window(item: Item, shown: Item) -> int | None:
    """`<architecture>.context_length` of the GGUF file."""
    info = shown.get("model_info")
    architecture = text(info, "general.architecture") if isinstance(info, dict) else ""
    return positive(info, f"{architecture}.context_length") or positive(item.get("details"), "context_length")
