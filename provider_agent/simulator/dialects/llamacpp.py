"""The dialects of llama.cpp's server, alone and as a router, llama-cpp-python, llamafile and KoboldCpp."""

from dataclasses import replace
from typing import Any

from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from provider_agent.simulator.dialects.base import Dialect, View, described, fixed, listing
from provider_agent.simulator.style import Json, Style, koboldcpp_error, llamacpp_error

_BASIC = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})
_MULTIUSER = 6
"""How many requests KoboldCpp lets wait unless it is told otherwise."""

LLAMACPP_STYLE = Style(
    members={"system_fingerprint": "b11434-simulated"},
    first_content=None,
    has_timings=True,
    error=llamacpp_error,
    event_error=llamacpp_error,
    tells_sizes=True,
)


def _card(view: View, model: str) -> dict[str, Any]:
    meta = {"vocab_type": 1, "n_vocab": 32_000, "n_ctx": view.context_window, "n_params": 7_000_000_000}
    return {
        "id": model,
        "object": "model",
        "created": view.created_s,
        "owned_by": "llamacpp",
        "meta": {**meta, "ftype": "Q4_K - Medium", "size": 4_000_000_000},
    }


def _models(view: View, _asked: Json) -> Any:
    """With a second list, in Ollama's form."""
    alike = [{"name": model, "model": model, "capabilities": ["completion"]} for model in view.models]
    return {"models": alike, "object": "list", "data": [_card(view, model) for model in view.models]}


def _props(view: View, _asked: Json) -> Any:
    return {
        "total_slots": view.slots.total,
        "default_generation_settings": {"n_ctx": view.context_window},
        "model_path": f"/simulated/{view.models[0]}.gguf",
        "media_marker": f"<__media_{view.started.timestamp()}__>",
        "chat_template": "{{ messages }}",
        "build_info": "b11434-simulated",
    }


def _slots(view: View, _asked: Json) -> Any:
    return [
        {"id": slot, "n_ctx": view.context_window, "is_processing": slot < view.slots.busy}
        for slot in range(view.slots.total)
    ]


def _router_models(view: View, _asked: Json) -> Any:
    """What is not loaded tells nothing but that."""
    states = {model: {"status": {"value": view.memory.state(model)}} for model in view.models}
    bare = {"object": "model", "created": view.created_s, "owned_by": "llamacpp"}
    cards = [
        (_card(view, model) if view.memory.has(model) else {"id": model, **bare}) | states[model]
        for model in view.models
    ]
    return {"object": "list", "data": cards}


def _router_props(view: View, asked: Json) -> Any:
    """The router's own, or those of the model that is asked for."""
    if "model" not in asked:
        return {"role": "router", "max_instances": 4, "models_autoload": True, "model_path": "none"}
    model = view.require(asked["model"])
    return _props(replace(view, models=(model,)), asked) if view.memory.has(model) else {}


LLAMACPP = Dialect(
    endpoints=_BASIC | {RESPONSES, MESSAGES, RERANK},
    pages={"/v1/models": _models, "/models": _models, "/props": _props, "/slots": _slots},
    style=LLAMACPP_STYLE,
    server="llama.cpp",
    takes_any_model=True,
    loads="answering 503",
    hangs_up=True,
)

LLAMACPP_ROUTER = replace(
    LLAMACPP,
    pages={"/v1/models": _router_models, "/models": _router_models, "/props": _router_props},
    takes_any_model=False,
    loads="on demand",
)

_PYTHON_PATHS = (CHAT, COMPLETIONS, EMBEDDINGS, "/v1/models", "/extras/tokenize", "/extras/detokenize")

LLAMACPP_PYTHON = Dialect(
    endpoints=_BASIC,
    pages={
        "/v1/models": listing("me", more={"permissions": []}),
        "/openapi.json": described(*_PYTHON_PATHS, title="\N{LLAMA} llama.cpp Python API"),
    },
    style=Style(first_content=None, usage="nowhere"),
    server="uvicorn",
    takes_any_model=True,
)
"""Of the real one a stream is broken off by the next request; here that one waits."""

LLAMAFILE = Dialect(
    endpoints=_BASIC,
    pages={"/v1/models": listing("llamafile")},
    style=replace(LLAMACPP_STYLE, members={}, has_timings=False, tells_sizes=False),
    takes_any_model=True,
)


def _koboldcpp_version(_view: View, _asked: Json) -> Any:
    return {"result": "KoboldCpp", "version": "1.115.1", "llm": True, "embeddings": True}


def _koboldcpp_tags(view: View, _asked: Json) -> Any:
    """It imitates Ollama, not all too well."""
    details = {"parent_model": "", "format": "gguf", "family": "koboldcpp", "families": ["koboldcpp"]}
    return {
        "models": [
            {"name": "koboldcpp", "model": f"{model}:latest", "digest": "0" * 64, "details": details}
            for model in view.models
        ]
    }


KOBOLDCPP = Dialect(
    endpoints=_BASIC,
    pages={
        "/v1/models": listing("koboldcpp", more={"permission": [], "root": "koboldcpp"}),
        "/api/extra/version": _koboldcpp_version,
        "/api/extra/true_max_context_length": lambda view, _: {"value": view.context_window},
        "/api/v1/model": lambda view, _: {"result": view.models[0]},
        "/api/tags": _koboldcpp_tags,
        "/api/ps": _koboldcpp_tags,
        "/api/version": fixed({"version": "0.7.0"}),
    },
    style=Style(error=koboldcpp_error),
    takes_any_model=True,
    most_waiting=_MULTIUSER,
    full=(503, "Server is busy; please try again later."),
)
