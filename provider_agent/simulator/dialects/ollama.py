"""The dialect of Ollama, and the pages of its API that others imitate."""

import hashlib
from datetime import datetime
from typing import Any

from provider_agent.backends.request import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RESPONSES,
)
from provider_agent.simulator.dialects.base import Dialect, View, fixed, listing
from provider_agent.simulator.ollama import normal_name
from provider_agent.simulator.style import Json, Style

OLLAMA_ENDPOINTS = frozenset({OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED})

_SIZE_BYTES = 4_000_000_000
_MOST_QUEUED = 512
"""`OLLAMA_MAX_QUEUE`."""


def tags(view: View, _asked: Json) -> Any:
    """`/api/tags`: what is on disk."""
    return {"models": [{**_card(model), "modified_at": _time(view.started)} for model in view.models]}


def loaded(view: View, _asked: Json) -> Any:
    """`/api/ps`: what is in memory, and until when."""
    more = {"size_vram": _SIZE_BYTES, "context_length": view.context_window}
    return {
        "models": [
            {**_card(model), "expires_at": _time(view.ends_at(model)), **more} for model in view.loaded
        ]
    }


def show(view: View, asked: Json) -> Any:
    """`/api/show`: one model."""
    model = view.require(normal_name(str(asked.get("model", ""))))
    info = {
        "general.architecture": "simulated",
        "general.parameter_count": 7_000_000_000,
        "simulated.context_length": view.context_window,
        "simulated.embedding_length": 64,
    }
    return {
        "details": _card(model)["details"],
        "model_info": info,
        "capabilities": ["completion"],
        "modified_at": _time(view.started),
    }


def _card(name: str) -> dict[str, Any]:
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "simulated",
        "families": ["simulated"],
        "parameter_size": "7B",
        "quantization_level": "Q4_K_M",
    }
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": _SIZE_BYTES, "digest": digest, "details": details}


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


OLLAMA = Dialect(
    endpoints=OLLAMA_ENDPOINTS | {CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES},
    pages={
        "/": fixed("Ollama is running"),
        "/v1/models": listing("library"),
        "/api/version": fixed({"version": "0.12.0"}),
        "/api/tags": tags,
        "/api/ps": loaded,
    },
    questions={"/api/show": show},
    style=Style(members={"system_fingerprint": "fp_ollama"}),
    name_of=normal_name,
    loads="on demand",
    keep_s=300.0,
    most_waiting=_MOST_QUEUED,
    full=(503, "server busy, please try again.  maximum pending requests exceeded"),
)
