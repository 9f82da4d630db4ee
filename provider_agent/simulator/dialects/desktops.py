"""The dialects of programs that run engines for their user: LM Studio, Jan, LocalAI, Docker Model Runner."""

import hashlib
from typing import Any

from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from provider_agent.simulator.dialects.base import Dialect, View, described, fixed, listing
from provider_agent.simulator.dialects.llamacpp import LLAMACPP_STYLE
from provider_agent.simulator.dialects.ollama import OLLAMA_ENDPOINTS, tags
from provider_agent.simulator.style import Json, Style

_BASIC = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})
_AN_HOUR_S = 3600.0


def _lmstudio_details(view: View, _asked: Json) -> Any:
    """Its listing before 0.4."""
    told = {
        "object": "model",
        "type": "llm",
        "publisher": "simulated",
        "arch": "simulated",
        "compatibility_type": "gguf",
        "quantization": "Q4_K_M",
        "max_context_length": view.context_window,
    }
    here = {"state": "loaded", "loaded_context_length": view.context_window}
    cards = [
        {"id": model, **told, **(here if view.memory.has(model) else {"state": "not-loaded"})}
        for model in view.models
    ]
    return {"object": "list", "data": cards}


def _lmstudio_instances(view: View, _asked: Json) -> Any:
    """Its listing since 0.4, which alone tells how many jobs run at once."""
    config = {"context_length": view.context_window, "parallel": view.slots.total}
    cards = [
        {
            "type": "llm",
            "key": model,
            "max_context_length": view.context_window,
            "loaded_instances": [{"id": model, "config": config}] if view.memory.has(model) else [],
        }
        for model in view.models
    ]
    return {"models": cards}


LMSTUDIO = Dialect(
    endpoints=_BASIC | {RESPONSES, MESSAGES},
    pages={
        "/v1/models": listing("organization_owner"),
        "/api/v0/models": _lmstudio_details,
        "/api/v1/models": _lmstudio_instances,
    },
    style=Style(members={"system_fingerprint": "simulated", "stats": {}}),
    loads="on demand",
    keep_s=_AN_HOUR_S,
)


def _jan_available(view: View, _asked: Json) -> Any:
    told = {"object": "model", "engine": "llamacpp", "status": "running"}
    return {"object": "list", "data": [{"id": model, **told} for model in view.models]}


JAN = Dialect(
    endpoints=_BASIC | {MESSAGES},
    pages={
        "/v1/models": listing("user"),
        "/v1/models/available": _jan_available,
        "/openapi.json": described("/models", "/chat/completions", title="Jan API Server Endpoints"),
    },
    style=LLAMACPP_STYLE,
)


def _localai_capabilities(view: View, _asked: Json) -> Any:
    told = {
        "object": "model",
        "capabilities": ["chat", "completion", "embeddings", "rerank"],
        "context_size": view.context_window,
    }
    return {"object": "list", "data": [{"id": model, **told} for model in view.models]}


def _localai_system(view: View, _asked: Json) -> Any:
    return {"backends": ["llama-cpp"], "loaded_models": [{"id": model} for model in view.loaded]}


LOCALAI = Dialect(
    endpoints=OLLAMA_ENDPOINTS | _BASIC | {RESPONSES, MESSAGES, RERANK},
    pages={
        "/v1/models": listing(None),
        "/v1/models/capabilities": _localai_capabilities,
        "/.well-known/localai.json": fixed({"version": "v4.9.0", "endpoints": {"chat_completions": CHAT}}),
        "/system": _localai_system,
        "/api/tags": tags,
    },
    loads="on demand",
)


def _docker_digest(model: str) -> str:
    return "sha256:" + hashlib.sha256(model.encode()).hexdigest()


def _docker_models(view: View, _asked: Json) -> Any:
    return [
        {
            "id": _docker_digest(model),
            "tags": [model],
            "created": view.created_s,
            "config": {"format": "gguf", "quantization": "Q4_K_M", "context_size": view.context_window},
        }
        for model in view.models
    ]


def _docker_running(view: View, _asked: Json) -> Any:
    states = {model: view.memory.state(model) for model in view.models}
    return [
        {
            "backend_name": "llama.cpp",
            "model_name": model,
            "mode": "completion",
            "loading": state == "loading",
        }
        for model, state in states.items()
        if state != "unloaded"
    ]


DOCKER = Dialect(
    endpoints=_BASIC | {RESPONSES, MESSAGES},
    pages={
        "/v1/models": listing("docker"),
        "/models": _docker_models,
        "/engines/ps": _docker_running,
        "/api/tags": tags,
    },
    style=LLAMACPP_STYLE,
    folder="/engines",
    loads="on demand",
    keep_s=300.0,
)
