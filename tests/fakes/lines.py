"""The whole line as real processes on free loopback ports: engine, coordinator, agent."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.programs import Program

BRIEFLY = {"PROVIDER_COORDINATOR__QUEUE_MAX_WAIT_S": "1"}
"""For a coordinator: nobody waits for long in vain."""

LIMIT_S = 40.0
"""How long a test of whole processes may take on a busy machine."""


def engine(*arguments: str, model: str = "tiny") -> Program:
    """A simulated engine; as fast as it can unless told otherwise."""
    speed = ("--tokens-per-second", "0", "--first-token-ms", "0")
    return Program("simulate", "--port", "0", "--model", model, *speed, *arguments, "--json")


def coordinator(*arguments: str, port: int = 0, environ: Mapping[str, str] | None = None) -> Program:
    """A coordinator, without keys unless told otherwise."""
    listen = ("--listen", f"127.0.0.1:{port}")
    return Program("coordinator", *listen, *(arguments or ("--dev",)), "--json", environ=environ or {})


def agent(directory: Path, agents_url: str, *engine_urls: str, **environ: str) -> Program:
    """An agent that knows these engines and looks for no others."""
    file = directory / "agent.toml"
    backends = "\n".join(f'[[backends]]\nkind = "openai"\nurl = "{url}"' for url in engine_urls)
    file.write_text(
        f'[coordinator]\nurl = "{agents_url}"\n'
        f'[identity]\nkey_path = "{directory}/identity.key"\n'
        '[discovery]\nenabled = false\n[telemetry]\nstatus_listen = ""\n'
        f"{backends}\n"
    )
    return Program("--config", str(file), "--json", environ=environ)


@dataclass(frozen=True)
class Line:
    """Three processes that are ready, and a client of theirs."""

    engine: Program
    coordinator: Program
    agent: Program
    client: aiohttp.ClientSession
    engine_url: str
    port: int


@asynccontextmanager
async def line(
    directory: Path, *engine_arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Line]:
    """Everything up: the agent's model can be asked for; `environ` is the coordinator's."""
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        sim = await stack.enter_async_context(engine(*engine_arguments))
        front = await stack.enter_async_context(coordinator(environ=environ))
        engine_url = (await sim.event("listening"))["url"]
        listening = await front.event("listening")
        worker = agent(directory, listening["agents_url"], engine_url)
        await stack.enter_async_context(worker)
        await worker.event("ready")
        client = await stack.enter_async_context(aiohttp.ClientSession(listening["url"]))
        yield Line(sim, front, worker, client, engine_url, listening["port"])


def chat(model: str = "tiny", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


async def ask(client: aiohttp.ClientSession, body: Mapping[str, Any]) -> tuple[int, bytes]:
    """One chat to its end: (status, body)."""
    async with client.post("/v1/chat/completions", json=body) as response:
        return response.status, await response.read()


def events(stream: bytes) -> list[Any]:
    """The data of each event; `[DONE]` as text."""
    data = (line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: "))
    return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in data]


def content(stream: bytes) -> str:
    """The text of a streamed chat."""
    choices = (event["choices"] for event in events(stream) if event != "[DONE]")
    return "".join(choice["delta"].get("content") or "" for found in choices for choice in found)
