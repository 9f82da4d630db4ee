"""The dialects of vLLM, SGLang, TGI, `transformers serve` and mlx_lm.server."""

from typing import Any

from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from provider_agent.simulator.dialects.base import Dialect, View, described, fixed, listing
from provider_agent.simulator.style import (
    Json,
    Style,
    detail_error,
    flat_error,
    text_error,
    tgi_error,
    vllm_error,
)

_VLLM = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, RERANK)
_SGLANG = (CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK)
_TRANSFORMERS = (CHAT, COMPLETIONS, RESPONSES)

VLLM = Dialect(
    endpoints=frozenset(_VLLM),
    pages={
        "/v1/models": listing("vllm", window="max_model_len", more={"root": "simulated", "parent": None}),
        "/version": fixed({"version": "0.32.0"}),
        "/openapi.json": described("/version", "/tokenize", *_VLLM),
    },
    style=Style(
        members={"system_fingerprint": None, "prompt_logprobs": None, "kv_transfer_params": None},
        choice_members={"stop_reason": None, "token_ids": None},
        error=vllm_error,
        event_error=vllm_error,
    ),
    server="uvicorn",
)


def _sglang_server(view: View, _asked: Json) -> Any:
    running = {"effective_max_running_requests_per_dp": view.slots.total}
    return {"version": "0.5.0", "max_running_requests": None, "internal_states": [running]}


def _sglang_model(view: View, _asked: Json) -> Any:
    return {"model_path": view.models[0], "is_generation": True, "weight_version": "default"}


SGLANG = Dialect(
    endpoints=frozenset(_SGLANG),
    pages={
        "/v1/models": listing("sglang", window="max_model_len", more={"root": "simulated"}),
        "/get_server_info": _sglang_server,
        "/get_model_info": _sglang_model,
        "/openapi.json": described("/generate", *_SGLANG),
    },
    style=Style(
        members={"usage": None},
        choice_members={"matched_stop": None},
        error=flat_error,
        event_error=vllm_error,
    ),
    server="uvicorn",
    takes_any_model=True,
)


def _tgi_info(view: View, _asked: Json) -> Any:
    return {
        "model_id": view.models[0],
        "model_sha": "simulated",
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": view.slots.total,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_input_tokens": max(1, view.context_window - 1),
        "max_total_tokens": view.context_window,
        "validation_workers": 2,
        "max_client_batch_size": 4,
        "router": "text-generation-router",
        "version": "3.3.5",
    }


def _tgi_models(view: View, _asked: Json) -> Any:
    cards = [{"id": each, "object": "model", "created": 0, "owned_by": each} for each in view.models]
    return {"object": "list", "data": cards}


TGI = Dialect(
    endpoints=frozenset({CHAT, COMPLETIONS}),
    pages={"/v1/models": _tgi_models, "/info": _tgi_info},
    style=Style(
        members={"system_fingerprint": "3.3.5-simulated", "usage": None},
        error=tgi_error,
        event_error=tgi_error,
    ),
    takes_any_model=True,
    most_waiting=0,
    full=(429, "Model is overloaded"),
)

TRANSFORMERS = Dialect(
    endpoints=frozenset(_TRANSFORMERS),
    pages={
        "/v1/models": listing("simulated"),
        "/openapi.json": described(*_TRANSFORMERS, "/v1/models", "/load_model", "/reset"),
    },
    style=Style(
        usage="finish",
        counts_unasked=True,
        is_marked=False,
        error=detail_error,
        event_error=text_error,
    ),
    server="uvicorn",
    loads="on demand",
    keep_s=300.0,
)

MLX = Dialect(
    endpoints=frozenset({CHAT, COMPLETIONS}),
    pages={"/v1/models": listing(None)},
    style=Style(
        members={"system_fingerprint": "0.32.2-simulated"},
        comment=b": keepalive 4/5\n\n: keepalive 5/5\n\n",
        error=text_error,
        event_error=text_error,
    ),
    server="BaseHTTP/0.6 Python/3.11.7",
    loads="on demand",
)
"""Its list does not say what is in memory. When it breaks, it closes the connection, and reports nothing."""
