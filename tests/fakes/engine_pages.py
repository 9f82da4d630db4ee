"""What each engine family says of itself, with one model, `tiny`.

Those of llama.cpp, llama-cpp-python, vLLM, `transformers serve` and mlx_lm.server are written after what
these answered, and shortened; whole recordings are in `recordings.py`. The others are written after the
engines' sources and documentation. `docs/engines.md` says so for each.
"""

from collections.abc import Callable, Mapping
from typing import Any

from provider_agent.backends import families
from provider_agent.backends.base import BackendModel, BackendSettings, BackendUnreachable, OutOfSockets
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import QUESTIONS, Answers
from tests.fakes.engine import Answer, Connection, FakeEngine, Received, json_answer, models_page

Pages = Mapping[str, Answer]

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
OLLAMA_DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "families": None}
TELL_NO_CONTEXT = frozenset({"jan", "llamafile", "transformers", "mlx", "llamacpp-python"})


def openapi(*paths: str, title: str = "FastAPI") -> Answer:
    """A description of itself, as Python servers give it without being asked to."""
    described: dict[str, object] = {path: {"post": {}} for path in paths}
    return json_answer({"openapi": "3.1.0", "info": {"title": title, "version": "1"}, "paths": described})


def vllm(*paths: str) -> Pages:
    served = paths or (CHAT, COMPLETIONS, "/v1/responses", "/v1/messages")
    return {
        "/v1/models": models_page("tiny", owned_by="vllm", root="/models/tiny", max_model_len=1024),
        "/version": json_answer({"version": "0.32.0"}),
        "/openapi.json": openapi("/version", *served),
    }


def sglang(*, is_generation: bool = True) -> Pages:
    states = [{"effective_max_running_requests_per_dp": 16}, {"effective_max_running_requests_per_dp": 16}]
    return {
        "/v1/models": models_page("tiny", owned_by="sglang", max_model_len=1024),
        "/get_model_info": json_answer({"model_path": "/models/tiny", "is_generation": is_generation}),
        "/get_server_info": json_answer({"max_running_requests": None, "internal_states": states}),
    }


def llamacpp(*, embeds: bool = False, chats: bool = True) -> Pages:
    """Recorded from build 11434, shortened; the refusals are those of `{}`."""
    meta = {"vocab_type": 1, "n_vocab": 468, "n_ctx": 1024, "n_ctx_train": 4096, "n_params": 1551616}
    data = [{"id": "tiny", "object": "model", "owned_by": "llamacpp", "meta": meta | {"ftype": "F16"}}]
    ollama_like = [{"name": "tiny", "model": "tiny", "capabilities": ["completion"], "details": {}}]
    props = {
        "total_slots": 4,
        "default_generation_settings": {"n_ctx": 1024},
        "model_path": "/models/tiny.gguf",
        "media_marker": "<__media_QVjveNwpeWZbflpIudK4Rp9EDXJaVmUq__>",
        "chat_template": "{{ messages }}",
    }
    listing = {"models": ollama_like, "object": "list", "data": data}
    return {
        "/v1/models": json_answer(listing, headers={"Server": "llama.cpp"}),
        "/props": json_answer(props),
        EMBEDDINGS: _incomplete() if embeds else _unsupported("embeddings"),
        "/v1/rerank": _unsupported("reranking"),
        **({} if chats else {CHAT: _unsupported("chat completions")}),
    }


def llamacpp_router() -> Pages:
    """Recorded from build 11434 without `--model`: `tiny` is loaded, `other` is not."""
    listed = [
        {"id": "other", "object": "model", "owned_by": "llamacpp", "status": {"value": "unloaded"}},
        {
            "id": "tiny",
            "object": "model",
            "owned_by": "llamacpp",
            "status": {"value": "loaded"},
            "meta": {"n_ctx": 512, "n_ctx_train": 8192, "n_params": 1551616, "ftype": "F16"},
        },
    ]
    router = {"role": "router", "max_instances": 4, "models_autoload": True, "model_path": "none"}
    return {
        "/v1/models": json_answer({"data": listed, "object": "list"}, headers={"Server": "llama.cpp"}),
        "/props": json_answer(router),
        EMBEDDINGS: _unsupported("embeddings"),
        "/v1/rerank": _unsupported("reranking"),
    }


def lmstudio(*, kind: str = "llm", state: str = "loaded", parallel: int | None = None) -> Pages:
    details = {
        "id": "tiny",
        "object": "model",
        "type": kind,
        "publisher": "somebody",
        "arch": "llama",
        "quantization": "Q4_K_M",
        "state": state,
        "max_context_length": 1024,
    }
    config = {"context_length": 512, "parallel": parallel}
    newer = {"type": "llm", "key": "some/tiny", "loaded_instances": [{"id": "tiny", "config": config}]}
    return {
        "/v1/models": models_page("tiny", owned_by="organization_owner"),
        "/api/v0/models": json_answer({"object": "list", "data": [details]}),
        **({"/api/v1/models": json_answer({"models": [newer]})} if parallel else {}),
    }


def ollama(*, capabilities: tuple[str, ...] = ("completion", "tools"), loaded: bool = True) -> Pages:
    tag = {"name": "tiny", "model": "tiny", "size": 1, "digest": "ab" * 32, "details": OLLAMA_DETAILS}
    shown = {
        "details": OLLAMA_DETAILS,
        "model_info": {"general.architecture": "llama", "llama.context_length": 1024},
        "capabilities": list(capabilities),
    }
    return {
        "/v1/models": models_page("tiny", owned_by="library"),
        "/api/tags": json_answer({"models": [tag]}),
        "/api/ps": json_answer({"models": [{**tag, "context_length": 1024}] if loaded else []}),
        "/api/show": json_answer(shown),
    }


def tgi() -> Pages:
    info = {
        "model_id": "tiny",
        "model_sha": "e985a63cdc139290c5f700ff1929f0b5942cced2",
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": 128,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_input_tokens": 1000,
        "max_total_tokens": 1024,
        "validation_workers": 2,
        "max_client_batch_size": 4,
        "router": "text-generation-router",
        "version": "3.3.5",
        "sha": None,
        "docker_label": None,
    }
    return {"/v1/models": models_page("tiny", owned_by="tiny"), "/info": json_answer(info)}


def localai(*capabilities: str, loaded: bool = True) -> Pages:
    told = {
        "id": "tiny",
        "object": "model",
        "capabilities": list(capabilities or ("chat", "completion", "embeddings")),
        "context_size": 1024,
    }
    tag = {"name": "tiny:latest", "model": "tiny:latest", "digest": "sha256:00", "details": OLLAMA_DETAILS}
    known = {"version": "v4.9.0", "endpoints": {"chat_completions": CHAT}, "capabilities": {"agents": False}}
    running = [{"id": "tiny"}] if loaded else []
    return {
        "/v1/models": json_answer({"object": "list", "data": [{"id": "tiny", "object": "model"}]}),
        "/v1/models/capabilities": json_answer({"object": "list", "data": [told]}),
        "/.well-known/localai.json": json_answer(known),
        "/system": json_answer({"backends": ["llama-cpp"], "loaded_models": running}),
        "/api/tags": json_answer({"models": [tag]}),
    }


def koboldcpp(*, name: str = "tiny", llm: bool = True, embeddings: bool = False) -> Pages:
    details = OLLAMA_DETAILS | {"family": "koboldcpp"}
    tag = {"name": "koboldcpp", "model": f"{name}:latest", "digest": "b5" * 32, "details": details}
    version = {"result": "KoboldCpp", "version": "1.115.1", "llm": llm, "embeddings": embeddings}
    return {
        "/v1/models": models_page(name, owned_by="koboldcpp", permission=[], root="koboldcpp"),
        "/api/extra/version": json_answer(version),
        "/api/extra/true_max_context_length": json_answer({"value": 1024}),
        "/api/tags": json_answer({"models": [tag]}),
        "/api/ps": json_answer({"models": [tag]}),
    }


def jan() -> Pages:
    available = [{"id": "tiny", "object": "model", "engine": "llamacpp", "status": "running"}]
    return {
        "/v1/models": models_page("tiny", owned_by="user"),
        "/v1/models/available": json_answer({"object": "list", "data": available}),
        "/openapi.json": openapi("/models", "/chat/completions", title="Jan API Server Endpoints"),
    }


def llamafile() -> Pages:
    return {"/v1/models": models_page("tiny", owned_by="llamafile")}


def docker(*, running: bool = True) -> Pages:
    """As below `/engines` and below `/` at once: the base URL of a fake may be either."""
    stored = {"id": "sha256:" + "cd" * 32, "tags": ["tiny"], "created": 1, "config": {"context_size": 1024}}
    used = {"backend_name": "llama.cpp", "model_name": "tiny", "mode": "completion"}
    return {
        "/v1/models": models_page("tiny", owned_by="docker"),
        "/models": json_answer([stored]),
        "/engines/ps": json_answer([used] if running else []),
        "/api/tags": json_answer({"models": [{"name": "tiny", "model": "tiny", "details": OLLAMA_DETAILS}]}),
    }


def transformers() -> Pages:
    served = (CHAT, "/v1/responses", "/v1/audio/transcriptions", "/load_model", "/reset", "/v1/models")
    listed = [{"owned_by": ["some", "tiny"], "id": "tiny", "object": "model", "created": 1.5}]
    return {
        "/v1/models": json_answer({"object": "list", "data": listed}),
        "/openapi.json": openapi(*served),
    }


def mlx() -> Pages:
    card = {"id": "tiny", "object": "model", "created": 1}
    server = {"Server": "BaseHTTP/0.6 Python/3.11.7"}
    return {
        "/v1/models": json_answer({"object": "list", "data": [card]}, headers=server),
        "/health": json_answer({"status": "ok"}, headers=server),
    }


def llamacpp_python(*, embeds: object = None) -> Pages:
    """With `--embedding True` it has vectors: one for each token, of a model that was not made to embed."""
    message = "Llama model must be created with embedding=True to call this method"
    error = {"message": message, "type": "internal_server_error", "param": None, "code": None}
    vectors = {"object": "list", "data": [{"object": "embedding", "embedding": embeds, "index": 0}]}
    served = (COMPLETIONS, EMBEDDINGS, CHAT, "/v1/models", "/extras/tokenize")
    return {
        "/v1/models": models_page("tiny", owned_by="me", permissions=[]),
        "/openapi.json": openapi(*served, title="\N{LLAMA} llama.cpp Python API"),
        EMBEDDINGS: json_answer({"error": error}, 500) if embeds is None else json_answer(vectors),
    }


def remote() -> Pages:
    """As OpenRouter lists, which names no owner."""
    pricing = {"prompt": "0.0000001", "completion": "0.0000004"}
    return {"/v1/models": json_answer({"data": [{"id": "tiny", "context_length": 1024, "pricing": pricing}]})}


def openai() -> Pages:
    return {"/v1/models": models_page("tiny", owned_by="somebody", context_length=1024)}


def _unsupported(what: str) -> Answer:
    message = f"This server does not support {what}. Start it with other flags"
    return json_answer({"error": {"code": 501, "message": message, "type": "not_supported_error"}}, 501)


def _incomplete() -> Answer:
    message = '"input" or "content" must be provided'
    return json_answer({"error": {"code": 400, "message": message, "type": "invalid_request_error"}}, 400)


FAMILIES: Mapping[str, Callable[[], Pages]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llamacpp": llamacpp,
    "lmstudio": lmstudio,
    "ollama": ollama,
    "tgi": tgi,
    "localai": localai,
    "koboldcpp": koboldcpp,
    "jan": jan,
    "llamafile": llamafile,
    "docker": docker,
    "transformers": transformers,
    "mlx": mlx,
    "llamacpp-python": llamacpp_python,
    "remote": remote,
    "openai": openai,
}


async def models_of(kind: str, pages: Pages, **settings: Any) -> tuple[BackendModel, ...]:
    """What the adapter of that family makes of these pages."""
    async with FamilyEngine(pages) as engine, EngineHttp() as http:
        family = families.FAMILIES[kind]
        return await family(http, BackendSettings(kind, **settings), url=engine.url, name="x").list_models()


def answers_of(pages: Pages) -> Answers:
    """What a server with these pages says to the questions that tell engines apart."""
    asked = {name: _page(pages[path]) for name, path in QUESTIONS.items() if path in pages}
    return Answers(_page(pages["/v1/models"]) if "/v1/models" in pages else None, **asked)


def _page(answer: Answer) -> Page:
    body = b"".join(step for step in answer.steps if isinstance(step, bytes))
    return Page(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)


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

    async def hold(self, base_url: str, *, timeout_s: float) -> None:
        """There is no connection."""


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


class OllamaThatLoads(FamilyEngine):
    """Has its model on disk, and in memory once it was asked to generate."""

    def __init__(self) -> None:
        super().__init__(ollama(loaded=False))

    def answer(self, request: Received, connection: Connection) -> Answer:
        if request.path != "/api/generate":
            return super().answer(request, connection)
        self.pages.update(ollama(loaded=True))
        return json_answer({"model": "tiny", "response": "", "done": True, "done_reason": "load"})
