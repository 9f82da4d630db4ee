"""The shortest request that makes an engine load a model; knows no engine family and opens no connection."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES

_WORD: Final = "Hi"
_TALK: Final = [{"role": "user", "content": _WORD}]

_BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    COMPLETIONS: {"prompt": _WORD, "max_tokens": 1},
    CHAT: {"messages": _TALK, "max_tokens": 1},
    MESSAGES: {"messages": _TALK, "max_tokens": 1},
    EMBEDDINGS: {"input": _WORD},
    RERANK: {"query": _WORD, "documents": [_WORD]},
    RESPONSES: {"input": _WORD, "max_output_tokens": 16},  # it takes no smaller limit
}
"""The cheapest first. A completion comes before a chat: it needs no template of the model's."""


def shortest_question(
    model_id: str, endpoints: Collection[str], *, is_embedding: bool
) -> tuple[str, bytes] | None:
    """Path and body; None for a model with none of these endpoints.

    Engines list endpoints for models that are not loaded without knowing what those can do, so a model that
    only embeds is asked for that.
    """
    order = (EMBEDDINGS,) if is_embedding else _BODIES
    path = next((each for each in order if each in endpoints), None)
    return None if path is None else (path, msgspec.json.encode({"model": model_id, **_BODIES[path]}))
