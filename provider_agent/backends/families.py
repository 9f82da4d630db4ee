"""Which engine families there are, and which of them is behind an address: by its answers, not its port."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Final

from provider_agent.backends.base import AuthRejected, BackendError, OutOfSockets
from provider_agent.backends.docker import DockerBackend
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.jan import JanBackend
from provider_agent.backends.koboldcpp import KoboldCppBackend
from provider_agent.backends.listing import QUESTIONS, Answers
from provider_agent.backends.llamacpp import LlamaCppBackend
from provider_agent.backends.llamacpp_python import LlamaCppPythonBackend
from provider_agent.backends.llamafile import LlamafileBackend
from provider_agent.backends.lmstudio import LmStudioBackend
from provider_agent.backends.localai import LocalAIBackend
from provider_agent.backends.mlx import MlxBackend
from provider_agent.backends.ollama import OllamaBackend
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.remote import RemoteBackend
from provider_agent.backends.sglang import SglangBackend
from provider_agent.backends.tgi import TgiBackend
from provider_agent.backends.transformers import TransformersBackend
from provider_agent.backends.vllm import VllmBackend

AUTO: Final = "auto"

_SPECIAL: Final[tuple[type[OpenAIBackend], ...]] = (
    VllmBackend,
    SglangBackend,
    LlamaCppBackend,
    LlamafileBackend,
    LmStudioBackend,
    OllamaBackend,
    TgiBackend,
    LocalAIBackend,
    KoboldCppBackend,
    JanBackend,
    DockerBackend,
    TransformersBackend,
    MlxBackend,
    LlamaCppPythonBackend,
    RemoteBackend,
)

FAMILIES: Final[Mapping[str, type[OpenAIBackend]]] = {
    **{each.kind: each for each in _SPECIAL},
    OpenAIBackend.kind: OpenAIBackend,
}

_OURSELVES: Final = "provider-agent"

_KEY_WANTED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


async def identify(
    http: EngineHttp,
    url: str,
    *,
    api_key: str | None = None,
    timeout_s: float,
    only_local: bool = False,
    before: str | None = None,
) -> type[OpenAIBackend] | None:
    """The family of the engine at a base URL; None when nobody answers, or no engine does.

    There are two rounds of questions of at most `timeout_s` each; the second only where the list of models
    does not settle it. With `only_local` somebody else's paid engines are none either, as far as that can
    be told. Where a page did not come in time, it is who it was `before` (a kind) rather than nobody special.
    One whose work that disturbs is not asked for its models again, as long as it is who it was.

    Raises:
        OutOfSockets: not everything could be asked.
        AuthRejected: somebody is there who tells nothing without an API key.
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

    if before is not None and await _is_still(FAMILIES[before], ask):
        return FAMILIES[before]
    models = await ask("/v1/models")
    if models is None and not short:
        return None
    answers, is_sure = Answers(models), True
    if _who(answers) is None and not answers.is_owned_by(_OURSELVES):
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(ask(path)) for name, path in QUESTIONS.items()}
        pages = {name: page.result() for name, page in asked.items()}
        answers, is_sure = Answers(models, **pages), None not in pages.values()
    if short:
        raise short[0]
    family = recognise(answers, only_local=only_local)
    if family is OpenAIBackend and before is not None and not is_sure:
        return FAMILIES[before]
    if family is None and models is not None and models.status in _KEY_WANTED:
        raise AuthRejected("whoever answers there wants an API key; set api_key_env or api_key_file")
    return family


async def _is_still(
    family: type[OpenAIBackend], ask: Callable[[str], Coroutine[None, None, Page | None]]
) -> bool:
    """As far as it is known by a page that may be asked for at any time. None that comes is no news."""
    if family.known_again_by is None:
        return False
    page = await ask(QUESTIONS[family.known_again_by])
    return page is None or family.recognises(Answers(**{family.known_again_by: page}))


def recognise(answers: Answers, *, only_local: bool = False) -> type[OpenAIBackend] | None:
    """The one special family that knows itself in the answers; where none or several do, the general one.

    A coordinator of ours is no engine.
    """
    if answers.is_owned_by(_OURSELVES):
        return None
    family = _who(answers) or (OpenAIBackend if OpenAIBackend.recognises(answers) else None)
    if family is None or (only_local and (family.is_remote or RemoteBackend.recognises(answers))):
        return None
    return family


def _who(answers: Answers) -> type[OpenAIBackend] | None:
    known = [family for family in _SPECIAL if family.recognises(answers)]
    return known[0] if len(known) == 1 else None
