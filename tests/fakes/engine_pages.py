"""What each engine family says of itself, as recorded or documented; with one model, `tiny`."""

from collections.abc import Callable, Mapping
from typing import Any

from provider_agent.backends.base import BackendUnreachable, OutOfSockets
from provider_agent.backends.http import EngineHttp, Page
from tests.fakes.engine import Answer, FakeEngine, json_answer, models_page

Pages = Mapping[str, Answer]

OLLAMA_DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "families": None}


def vllm() -> Pages:
    return {
        "/v1/models": models_page("tiny", owned_by="vllm", root="/models/tiny", max_model_len=1024),
        "/version": json_answer({"version": "0.32.0"}),
    }


def sglang(*, is_generation: bool = True) -> Pages:
    return {
        "/v1/models": models_page("tiny", owned_by="sglang", max_model_len=1024),
        "/get_model_info": json_answer({"model_path": "/models/tiny", "is_generation": is_generation}),
    }


def llamacpp() -> Pages:
    data = [
        {
            "id": "tiny",
            "object": "model",
            "owned_by": "llamacpp",
            "meta": {"n_ctx": 1024, "n_ctx_train": 4096},
        }
    ]
    ollama_like = [{"name": "tiny", "model": "tiny", "capabilities": ["completion"], "details": {}}]
    listing = {"models": ollama_like, "object": "list", "data": data}
    return {
        "/v1/models": json_answer(listing, headers={"Server": "llama.cpp"}),
        "/props": json_answer({"total_slots": 4, "default_generation_settings": {"n_ctx": 1024}}),
    }


def lmstudio(*, kind: str = "llm") -> Pages:
    details = {"id": "tiny", "object": "model", "type": kind, "state": "loaded", "max_context_length": 1024}
    return {
        "/v1/models": models_page("tiny", owned_by="organization_owner"),
        "/api/v0/models": json_answer({"object": "list", "data": [details]}),
    }


def ollama(*, capabilities: tuple[str, ...] = ("completion", "tools")) -> Pages:
    tag = {"name": "tiny", "model": "tiny", "size": 1, "digest": "ab" * 32, "details": OLLAMA_DETAILS}
    shown = {
        "details": OLLAMA_DETAILS,
        "model_info": {"general.architecture": "llama", "llama.context_length": 1024},
        "capabilities": list(capabilities),
    }
    return {
        "/v1/models": models_page("tiny", owned_by="library"),
        "/api/tags": json_answer({"models": [tag]}),
        "/api/show": json_answer(shown),
    }


def openai() -> Pages:
    return {"/v1/models": models_page("tiny", owned_by="somebody", context_length=1024)}


FAMILIES: Mapping[str, Callable[[], Pages]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llamacpp": llamacpp,
    "lmstudio": lmstudio,
    "ollama": ollama,
    "openai": openai,
}


class FamilyEngine(FakeEngine):
    """An engine of one family."""

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self.pages = dict(pages)


class HttpOfPages(EngineHttp):
    """Answers each question with the next page, without any network; fails when they are used up."""

    def __init__(self, *pages: Page) -> None:
        super().__init__()
        self._pages = list(pages)

    async def ask(self, *_address: object, **_options: object) -> Page:
        if not self._pages:
            raise BackendUnreachable("nobody there")
        return self._pages.pop(0)


class HttpOutOfSockets(EngineHttp):
    """A client on a machine with no socket left, while `is_short`."""

    is_short = False

    async def ask(self, base_url: str, path: str, **options: Any) -> Page:
        if self.is_short:
            raise OutOfSockets("none left")
        return await super().ask(base_url, path, **options)


class BrokenHttp(EngineHttp):
    """Has a defect: whatever is asked, it raises what nobody expects."""

    async def ask(self, *_address: object, **_options: object) -> Page:
        raise KeyError("a defect")
