"""Which engine families there are, and which of them is behind an address: by its answers, not its port."""

import asyncio
from collections.abc import Mapping
from typing import Final

from provider_agent.backends.base import BackendError, OutOfSockets
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import Answers
from provider_agent.backends.llamacpp import LlamaCppBackend
from provider_agent.backends.lmstudio import LmStudioBackend
from provider_agent.backends.ollama import OllamaBackend
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.sglang import SglangBackend
from provider_agent.backends.vllm import VllmBackend

AUTO: Final = "auto"

_MOST_SPECIAL_FIRST: Final[tuple[type[OpenAIBackend], ...]] = (
    VllmBackend,
    SglangBackend,
    LlamaCppBackend,
    LmStudioBackend,
    OllamaBackend,
    OpenAIBackend,
)

FAMILIES: Final[Mapping[str, type[OpenAIBackend]]] = {each.kind: each for each in _MOST_SPECIAL_FIRST}

_OURSELVES: Final = "provider-agent"
_RESELLERS: Final = ("openai", "openai-internal", "system", "anthropic", "google", "azure", "openrouter")


async def identify(
    http: EngineHttp, url: str, *, api_key: str | None = None, timeout_s: float, only_local: bool = False
) -> type[OpenAIBackend] | None:
    """The family of the engine at a base URL; None when nobody answers, or no engine does.

    There are two rounds of questions of at most `timeout_s` each. With `only_local` a gateway to
    somebody else's paid engines is none either, as far as that can be told.

    Raises:
        OutOfSockets: not everything could be asked.
    """
    short: list[OutOfSockets] = []

    async def ask(path: str) -> Page | None:
        try:
            return await http.ask(url, path, api_key=api_key, timeout_s=timeout_s)
        except OutOfSockets as error:
            short.append(error)
        except BackendError:
            pass
        return None

    models = await ask("/v1/models")
    if models is None and not short:
        return None
    async with asyncio.TaskGroup() as group:
        tags, details = group.create_task(ask("/api/tags")), group.create_task(ask("/api/v0/models"))
    if short:
        raise short[0]
    return recognise(Answers(models, tags.result(), details.result()), only_local=only_local)


def recognise(answers: Answers, *, only_local: bool = False) -> type[OpenAIBackend] | None:
    """The most special family that knows itself in the answers. A coordinator of ours is no engine."""
    if answers.is_owned_by(_OURSELVES):
        return None
    if only_local and answers.is_owned_by(*_RESELLERS):
        return None
    return next((family for family in _MOST_SPECIAL_FIRST if family.recognises(answers)), None)
