"""`validate --live` in front of real llama.cpp: every endpoint that it offers answers, and is measured."""

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.engines.processes import LlamaServer

CONFIG = """\
[coordinator]
url = "ws://127.0.0.1:8700/v1/agents/connect"
enrollment_code = "not needed"
[identity]
key_path = "{folder}/validate.key"
[discovery]
enabled = false
"""
BACKEND = '[[backends]]\nkind = "auto"\nurl = "{url}"\n'


def validated(folder: Path, *engines: LlamaServer, codes: Collection[int]) -> dict[str, Any]:
    """What a script is told of these engines."""
    config = folder / "validate.toml"
    backends = "".join(BACKEND.format(url=engine.url) for engine in engines)
    config.write_text(CONFIG.format(folder=folder) + backends)
    command = [
        sys.executable,
        "-m",
        "provider_agent",
        "validate",
        "--config",
        str(config),
        "--live",
        "--json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in codes, ended.stdout + ended.stderr
    findings: dict[str, Any] = json.loads(ended.stdout)
    return findings


def test_each_way_to_write_is_measured_and_the_rest_is_the_other_servers(folder: Path) -> None:
    """First byte and speed by the engine's own count; what a server was not started for it may refuse."""
    with (
        LlamaServer(folder, "tried") as chat,
        LlamaServer(folder, "tried-embed", "--embeddings", "--pooling", "mean") as embedding,
        LlamaServer(folder, "tried-rank", "--reranking") as ranking,
    ):
        findings = validated(folder, chat, embedding, ranking, codes=(0,))
    answered = {
        (trial["model"], trial["endpoint"]): trial
        for trial in findings["trials"]
        if trial["verdict"] == "answered"
    }

    failed = {trial["endpoint"] for trial in findings["trials"] if trial["verdict"] == "failed"}
    assert failed == set()
    assert findings["all_answered"]
    for endpoint in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"):
        trial = answered["tried", endpoint]
        assert trial["first_byte_ms"] > 0
        assert 0 < trial["output_tokens"] <= 16
    assert answered["tried", "/v1/chat/completions"]["tokens_per_s"] > 0
    assert ("tried-embed", "/v1/embeddings") in answered
    assert ("tried-rank", "/v1/rerank") in answered
    assert ("tried", "/v1/embeddings") not in answered


def test_an_engine_that_was_killed_is_69_and_named(folder: Path) -> None:
    """It is configured, so that its absence is no small matter."""
    server = LlamaServer(folder, "killed")
    with server:
        server.kill()
        findings = validated(folder, server, codes=(69,))

    assert findings["all_answered"] is False
    (problem,) = findings["problems"]
    assert "does not accept connections" in problem["text"]
