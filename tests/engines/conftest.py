"""The line under test, once per run: two kinds of llama.cpp server, an agent with both, a coordinator."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI

from tests.engines.processes import ENGINES, LlamaServer, OllamaStandin, Program

CONFIG = """\
[coordinator]
url = "{url}"
[identity]
key_path = "{folder}/{name}.key"
[operator]
name = "{name}"
[discovery]
enabled = false
interval_s = 1
[telemetry]
status_listen = ""
{backends}
"""
BACKEND = """
[[backends]]
kind = "{kind}"
url = "{url}"
{more}
"""

StartAgent = Callable[..., Program]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the engine; it is skipped by nobody: `prepare.sh` makes it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@dataclass(frozen=True)
class Line:
    """Client → coordinator → agent → engine, and the engine itself."""

    coordinator: Program
    url: str
    chat: LlamaServer
    embedding: LlamaServer
    slow: LlamaServer
    direct: OpenAI
    through: OpenAI


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert (ENGINES / "llama-server").exists(), "run tests/engines/prepare.sh first: `make test-engines` does"
    return tmp_path_factory.mktemp("line")


@pytest.fixture(scope="session")
def coordinator(folder: Path) -> Iterator[tuple[Program, str]]:
    """A coordinator without keys, and its URL."""
    command = ["coordinator", "--dev", "--listen", "127.0.0.1:0"]
    with Program("coordinator", folder, command) as program:
        yield program, program.event("listening")["url"]


@pytest.fixture(scope="session")
def start_agent(folder: Path, coordinator: tuple[Program, str]) -> StartAgent:
    """Make an agent in front of engines `(kind, url, more settings)`; to be entered."""
    return agents_of(*coordinator, folder)


def agents_of(program: Program, url: str, folder: Path) -> StartAgent:
    """The same for any coordinator."""

    @contextlib.contextmanager
    def start(
        name: str, *backends: tuple[str, str, str], models: set[str], **environ: str
    ) -> Iterator[Program]:
        config = folder / f"{name}.toml"
        told = "".join(BACKEND.format(kind=kind, url=at, more=more) for kind, at, more in backends)
        agents_url = url.replace("http", "ws", 1) + "/v1/agents/connect"
        config.write_text(CONFIG.format(url=agents_url, folder=folder, name=name, backends=told))
        with Program(name, folder, ["run", "--config", str(config)], **environ) as agent:
            program.event("capabilities_taken", lambda event: models <= set(event["models"]))
            yield agent

    return start  # type: ignore[return-value]


@pytest.fixture(scope="session")
def line(folder: Path, coordinator: tuple[Program, str], start_agent: StartAgent) -> Iterator[Line]:
    """All of it, ready to be asked."""
    with contextlib.ExitStack() as stack:
        chat = stack.enter_context(LlamaServer(folder, "tiny"))
        embedding = stack.enter_context(
            LlamaServer(folder, "tiny-embed", "--embeddings", "--pooling", "mean")
        )
        slow = stack.enter_context(LlamaServer(folder, "slow", model="slow"))
        engines = [("llamacpp", server.url, "") for server in (chat, embedding, slow)]
        stack.enter_context(start_agent("den", *engines, models={"tiny", "tiny-embed", "slow"}))
        program, url = coordinator
        yield Line(
            coordinator=program,
            url=url,
            chat=chat,
            embedding=embedding,
            slow=slow,
            direct=stack.enter_context(client(chat.url)),
            through=stack.enter_context(client(url)),
        )


@pytest.fixture(scope="session")
def lively(folder: Path, line: Line) -> Iterator[str]:
    """The URL of a coordinator that gives signs of life all the time, with the slow engine behind it."""
    command = ["coordinator", "--dev", "--listen", "127.0.0.1:0"]
    with Program("lively", folder, command, PROVIDER_COORDINATOR__KEEPALIVE_S="0.05") as program:
        url = program.event("listening")["url"]
        with (
            OllamaStandin(folder, "lively-ollama", {"slow": line.slow.url}) as ollama,
            agents_of(program, url, folder)(
                "lively-den",
                ("llamacpp", line.slow.url, ""),
                ("ollama", ollama.url, ""),
                models={"slow", "slow:latest"},
            ),
        ):
            yield url


def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


def data_of(body: str) -> list[str]:
    """The data of each event of a stream."""
    return [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]


def error_in(data: str) -> dict[str, object]:
    error: dict[str, object] = json.loads(data)["error"]
    return error
