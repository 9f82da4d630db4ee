"""An engine that speaks Ollama's API is told by its answers and serves its models under their own names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.engines.conftest import Line, StartAgent, client
from tests.engines.processes import Program
from tests.engines.test_openai_client import said, streamed


@pytest.fixture(scope="module")
def ollama(folder: Path, start_agent: StartAgent) -> Iterator[OpenAI]:
    """The simulator with Ollama's API, and an agent that is told nothing but its address."""
    command = [
        "simulate",
        "--api",
        "ollama",
        "--model",
        "llama-of-tests:1b",
        "--port",
        "0",
        "--first-token-ms",
        "0",
    ]
    with Program("ollama", folder, [*command, "--tokens-per-second", "0"]) as engine:
        url = engine.event("listening")["url"]
        with (
            start_agent("ollama-den", ("auto", url, ""), models={"llama-of-tests:1b"}),
            client(url) as direct,
        ):
            yield direct


CHAT = {"model": "llama-of-tests:1b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}


def test_an_ollama_model_is_answered_as_by_the_engine(line: Line, ollama: OpenAI) -> None:
    """Not streamed and streamed."""
    assert said(line.through.chat.completions.create(**CHAT)) == said(ollama.chat.completions.create(**CHAT))  # type: ignore[call-overload]
    assert streamed(line.through, CHAT) == streamed(ollama, CHAT)


def test_an_ollama_model_is_listed_under_its_own_name(line: Line, ollama: OpenAI) -> None:
    """With its tag: that is the name that requests use."""
    assert ollama is not None
    assert "llama-of-tests:1b" in {model.id for model in line.through.models.list()}
