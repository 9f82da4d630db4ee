"""What Ollama's clients are told of the fleet's models: what is known, in their form; knows no request.

Only models count that somebody serves at Ollama's own endpoints: a client that lists another would fail with
it. Members that such a client may insist on, and nobody here knows, are there and say nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

import msgspec

from provider_agent.coordinator.fleet import features_of
from provider_agent.protocol.frames import ModelOffer

CHAT = "/api/chat"
GENERATE = "/api/generate"
EMBED = "/api/embed"
ENDPOINTS = frozenset({CHAT, GENERATE, EMBED})

_NO_TIME = "0001-01-01T00:00:00Z"
"""Ollama's own way to say that a time is not known: Go's zero."""

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")

Offers = tuple[ModelOffer, ...]


def is_native(offer: ModelOffer) -> bool:
    """Whether it is served at one of Ollama's endpoints."""
    return not ENDPOINTS.isdisjoint(offer.endpoints)


def tags(models: Mapping[str, Offers]) -> dict[str, object]:
    """`/api/tags`: all models."""
    return {"models": [_listed(name, offers) | {"modified_at": _NO_TIME} for name, offers in _native(models)]}


def running(models: Mapping[str, Offers]) -> dict[str, object]:
    """`/api/ps`: those that an agent says are in memory. How long they stay there, nobody knows."""
    return {
        "models": [
            _listed(name, offers) | {"expires_at": _NO_TIME, "size_vram": 0} | _context(offers)
            for name, offers in _native(models)
            if any(offer.warm for offer in offers)
        ]
    }


def shown(offers: Iterable[ModelOffer]) -> dict[str, object]:
    """`/api/show`: one model."""
    native = tuple(offer for offer in offers if is_native(offer))
    window = _context(native).get("context_length")
    info: dict[str, object] = {"general.architecture": "unknown"}
    if window is not None:
        info["unknown.context_length"] = window  # clients put the name together
    return {
        "modified_at": _NO_TIME,
        "details": _details(native),
        "model_info": info,
        "capabilities": _capabilities(native),
    }


def _native(models: Mapping[str, Offers]) -> Iterable[tuple[str, Offers]]:
    for name, offers in models.items():
        native = tuple(offer for offer in offers if is_native(offer))
        if native:
            yield name, native


def _listed(name: str, offers: Offers) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "size": 0,
        "digest": _digest(name, offers),
        "details": _details(offers),
        "capabilities": _capabilities(offers),
    }


def _details(offers: Offers) -> dict[str, object]:
    empty = dict.fromkeys(("parent_model", "format", "family", "parameter_size", "quantization_level"), "")
    return {**empty, "families": None, **_context(offers)}


def _context(offers: Offers) -> dict[str, int]:
    """The smallest: whoever gets the request can hold so much."""
    windows = [offer.context_window for offer in offers if offer.context_window is not None]
    return {"context_length": min(windows)} if windows else {}


def _capabilities(offers: Offers) -> list[str]:
    """Whoever can talk does not count as embedding as well. Clients offer tools and pictures by these."""
    offered = frozenset[str]().union(*(offer.endpoints for offer in offers))
    if offered & ENDPOINTS == {EMBED}:
        return ["embedding"]
    return ["completion", *(features_of(offers) or ())]


def _digest(name: str, offers: Offers) -> str:
    """The model's own if all agents serve the same; else one that changes when what is served does.

    Never empty: clients show its first twelve characters without looking.
    """
    served = sorted({offer.fingerprint or "" for offer in offers})
    known = _SHA256.fullmatch(served[0]) if len(served) == 1 else None
    return known[1] if known else hashlib.sha256(msgspec.json.encode([name, served])).hexdigest()
