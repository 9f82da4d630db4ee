"""Embeddings of both APIs: the same text, the same vector; knows no HTTP server."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from provider_agent.simulator import text
from provider_agent.simulator.task import BadTask

DIMENSIONS = 64
MAX_DIMENSIONS = 4096

Json = Mapping[str, Any]


def openai_embeddings(body: Json) -> dict[str, Any]:
    """The answer of `/v1/embeddings`. Raises BadTask."""
    inputs = _inputs(body.get("input"), tokens_allowed=True)
    size, packed = _dimensions(body), body.get("encoding_format") == "base64"
    vectors = [text.vector(text.digest(item), size) for item in inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(text.count_tokens(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def ollama_embeddings(body: Json) -> dict[str, Any]:
    """The answer of `/api/embed`. Raises BadTask."""
    inputs = _inputs(body.get("input"), tokens_allowed=False)
    size = _dimensions(body)
    return {
        "model": body.get("model"),
        "embeddings": [text.vector(text.digest(item), size) for item in inputs],
        "total_duration": 1_000_000,
        "load_duration": 500_000,
        "prompt_eval_count": sum(text.count_tokens(item) for item in inputs),
    }


def _inputs(value: Any, *, tokens_allowed: bool) -> list[str]:
    """The texts to embed; OpenAI's API takes lists of token numbers as well."""
    items = value if isinstance(value, list) else [value]
    if all(isinstance(item, str) for item in items):
        return items
    if tokens_allowed and all(isinstance(item, int) for item in items):
        return [" ".join(map(str, items))]
    if tokens_allowed and all(isinstance(item, list) for item in items):
        return [" ".join(map(str, item)) for item in items]
    raise BadTask("input must be a text or a list of texts")


def _dimensions(body: Json) -> int:
    size = body.get("dimensions", DIMENSIONS)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_DIMENSIONS:
        raise BadTask(f"dimensions must be a whole number from 1 to {MAX_DIMENSIONS}")
    return size


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
