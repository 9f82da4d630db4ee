"""A foreign scanner of OpenAI-style APIs is as content with the coordinator as with the engine itself."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import Line
from tests.engines.processes import ENGINES

SCANNER = ENGINES / "node" / "node_modules" / "compatcanary" / "src" / "cli.js"


def scan(url: str) -> dict[str, Any]:
    node = shutil.which("node")
    assert node is not None
    command: list[str | Path] = [
        node,
        SCANNER,
        "scan",
        "--base-url",
        f"{url}/v1",
        "--model",
        "tiny",
        "--api-key",
        "none",
    ]
    ended = subprocess.run(
        [*command, "--format", "json", "--fail-on", "never"], capture_output=True, text=True, check=True
    )
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


@pytest.mark.skipif(
    not SCANNER.exists() or shutil.which("node") is None,
    reason="compatcanary is not installed: prepare.sh needs npm for it",
)
def test_compatcanary_scores_100_as_at_the_engine(line: Line) -> None:
    """Models, chat, streaming, forced tool call, strict schema, responses."""
    assert scan(line.chat.url)["score"] == 100

    report = scan(line.url)
    assert [(each["id"], each["summary"]) for each in report["results"] if each["status"] != "pass"] == []
    assert report["score"] == 100
