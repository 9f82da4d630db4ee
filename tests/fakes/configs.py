"""Configurations as files, for tests to load."""

from pathlib import Path

import pytest

from provider_agent.agent.config import AgentConfig, ConfigError, load

URL = 'coordinator.url = "wss://c.example/v1/agents/connect"\n'


def loaded(file: Path, text: str) -> AgentConfig:
    """The configuration that consists of a coordinator and this text."""
    file.write_text(URL + text)
    return load(file, {})


def told_of(file: Path, text: str) -> str:
    """What the operator is told of this text, with a short name for the file."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}).backend_settings({})
    return str(caught.value).replace(str(file), "agent.toml")
