"""How the findings of `validate` look."""

import io
from typing import Any

from rich.console import Console

from provider_agent.cli.validate_view import show

FINDINGS: dict[str, Any] = {
    "valid": True,
    "file": "agent.toml",
    "variables": ["PROVIDER_AGENT__LOG__LEVEL"],
    "coordinator": "wss://example.org/v1/agents/connect",
    "identity": {"key_path": "/state/identity.key", "exists": False},
    "backends": [
        {
            "name": "ollama",
            "kind": "ollama",
            "url": "http://127.0.0.1:11434",
            "healthy": True,
            "models": ["a"],
        },
        {"name": "vllm", "kind": "vllm", "url": "http://127.0.0.1:8000", "healthy": False, "models": []},
    ],
    "models": [
        {
            "model_id": "a",
            "backend": "ollama",
            "endpoints": ["/api/chat", "/v1/chat/completions"],
            "max_concurrent": 4,
            "context_window": 131072,
            "input_per_1m": 0,
            "output_per_1m": 0,
        }
    ],
}


def shown(**changes: Any) -> str:
    out = io.StringIO()
    show({**FINDINGS, **changes}, Console(file=out, width=120, highlight=False))
    return out.getvalue()


def test_sources_engines_and_offer_are_shown() -> None:
    """In this order, each with what an operator asks for."""
    page = shown()

    assert page.index("agent.toml") < page.index("no answer") < page.index("131,072")
    assert "PROVIDER_AGENT__LOG__LEVEL" in page
    assert "/state/identity.key (made on first use)" in page
    assert "api/chat chat/completions" in page
    assert "free" in page


def test_prices_and_unknown_context_windows_are_shown_as_they_are() -> None:
    """Micro-units per million tokens."""
    (model,) = FINDINGS["models"]
    page = shown(models=[{**model, "input_per_1m": 5, "context_window": None}])

    assert "5 / 0" in page
    assert "131,072" not in page


def test_no_engine_and_no_offer_say_what_to_do() -> None:
    """An empty table would be a riddle."""
    page = shown(backends=[], models=[], file=None, variables=[])

    assert "no file" in page
    assert "none was found on this machine" in page
    assert "Start an engine" in page
