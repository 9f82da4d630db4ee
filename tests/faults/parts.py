"""The whole line over a faulty network: engine and proxy in the test's loop, the programs there or apart."""

import asyncio
import itertools
import re
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import pytest

from provider_agent.agent import app as agent_app
from provider_agent.agent.config import load as load_agent
from provider_agent.agent.waiting import Waiter, wait_until
from provider_agent.coordinator import app as coordinator_app
from provider_agent.coordinator.config import load as load_coordinator
from tests.fakes.clients import Heard, RawClient, ask
from tests.fakes.programs import Program
from tests.fakes.proxy import FaultProxy
from tests.fakes.tapes import TapeEngine, asks_for, tape

LIMIT_S = 40.0
"""How long a test may take on a busy machine."""

NOTICED_S = 10.0
"""How soon a peer that is gone must be noticed (protocol.md 1)."""

SLACK_S = 1.5
"""What a busy machine may add to a time that a test claims."""

STILL_S = 0.3
"""Nothing moved for so long: nothing will."""


needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NOT LINUX: limits and memory of a process are not looked at"
)


class Part(Protocol):
    """A program, wherever it runs."""

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of this name that it tells."""
        ...


class Here:
    """A program in this loop: told to stop on leaving, and waited for.

    Attributes:
        told: names of all its events, in order.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._stop = asyncio.Event()
        self._events: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue()
        self._task: asyncio.Task[int] | None = None

    def note(self, name: str, facts: dict[str, object]) -> None:
        self.told.append(name)
        self._events.put_nowait((name, facts))

    def start(self, main: Coroutine[object, object, int]) -> None:
        self._task = asyncio.get_running_loop().create_task(main)

    @property
    def stopping(self) -> asyncio.Event:
        return self._stop

    async def event(self, name: str) -> dict[str, Any]:
        while True:
            told, facts = await self._events.get()
            if told == name:
                return dict(facts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._stop.set()
        if error is not None:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=error is not None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- the programs --------------------------------------------------------------------------


def agent_settings(directory: Path, agents_port: int, *engines: TapeEngine, **more: str) -> dict[str, str]:
    """The environment of an agent that knows these engines and looks for no others."""
    settings = {
        "COORDINATOR__URL": f"ws://127.0.0.1:{agents_port}/v1/agents/connect",
        "IDENTITY__KEY_PATH": str(directory / "identity.key"),
        "DISCOVERY__ENABLED": "false",
        "LIMITS__MAX_CONCURRENT": "256",
        "TELEMETRY__STATUS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    for number, engine in enumerate(engines):
        settings[f"BACKENDS__{number}__KIND"] = "openai"
        settings[f"BACKENDS__{number}__URL"] = engine.url
    return {f"PROVIDER_AGENT__{name}": value for name, value in (settings | more).items()}


def coordinator_settings(**more: str) -> dict[str, str]:
    """The environment of a coordinator; it says nothing in between to a waiting client."""
    return {f"PROVIDER_COORDINATOR__{name}": value for name, value in ({"KEEPALIVE_S": "60"} | more).items()}


def agent_here(settings: Mapping[str, str], wait: Waiter = wait_until) -> Here:
    here = Here()
    config = load_agent(None, settings)
    here.start(agent_app.run(config, stop=here.stopping, on_event=here.note, environ=settings, wait=wait))
    return here


async def wait_briefly(wait_s: float, until: asyncio.Event) -> None:
    """Between its tries an agent waits a hundredth of what it would: for tests of many accidents."""
    await wait_until(wait_s / 100, until)


def coordinator_here(settings: Mapping[str, str], port: int = 0) -> Here:
    here = Here()
    config = load_coordinator({"dev": True, "listen": f"127.0.0.1:{port}"}, settings)
    here.start(coordinator_app.run(config, stop=here.stopping, on_event=here.note))
    return here


def agent_apart(settings: Mapping[str, str], **options: Any) -> Program:
    return Program("run", "--json", environ=settings, **options)


def coordinator_apart(
    settings: Mapping[str, str], *arguments: str, host: str = "127.0.0.1", port: int = 0, **options: Any
) -> Program:
    listen = ("--listen", f"{host}:{port}")
    return Program("coordinator", *listen, *(arguments or ("--dev",)), "--json", environ=settings, **options)


async def line_of(program: Program, text: str) -> str:
    """The next line of its log that has this text."""
    assert program.process.stderr is not None
    while line := await program.process.stderr.readline():
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"it ended without logging {text!r}")


# --- the line --------------------------------------------------------------------------------


@dataclass
class Line:
    """All parts, ready to serve.

    Attributes:
        proxy: between the agent and the coordinator.
        port: the coordinator's own, for clients.
        agent_environ: what the agent was started with.
    """

    engine: TapeEngine
    proxy: FaultProxy
    coordinator: Any
    agent: Any
    port: int
    agent_environ: Mapping[str, str]

    def client(self, name: str, *, room_bytes: int | None = None, **wanted: Any) -> RawClient:
        """A client that asks for this tape once it is entered."""
        return RawClient(self.port, asks_for(name, **wanted), room_bytes=room_bytes)

    async def ask(self, name: str, **wanted: Any) -> Heard:
        return await ask(self.port, asks_for(name, **wanted))

    async def active_jobs(self) -> int:
        """What the agent's status page says."""
        return await active_jobs(self.agent_environ)

    async def running_jobs(self) -> int:
        """What the coordinator's metrics say: jobs that wait are counted, too."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as response,
        ):
            text = await response.text()
        found = re.findall(r"^provider_coordinator_(?:running|waiting)_jobs ([0-9.]+)$", text, re.MULTILINE)
        assert len(found) == 2
        return sum(int(float(each)) for each in found)

    async def is_served_again(self) -> None:
        """Ask until an answer is whole; till then each client is told why not, or cannot get in."""
        for number in itertools.count():
            heard = await self.ask(f"again-{number}")
            if heard.is_whole:
                assert heard.body == tape(f"again-{number}")
                return
            assert heard.status == 0 or heard.error, heard
            await asyncio.sleep(0.05)

    async def is_idle(self) -> None:
        """Wait until nobody counts a job; each question is a round trip, so this is no busy loop."""
        while await self.active_jobs() + await self.running_jobs() + self.engine.open_connections:
            pass

    async def stands_still(self) -> None:
        """Wait until no engine could write anything for a while: all room on the way is full."""
        before = -1
        while (sent := sum(each.sent_bytes for each in self.engine.connections)) != before:
            before = sent
            await asyncio.sleep(STILL_S)


def resident_bytes(program: Program) -> int:
    """How much memory a process has."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def active_jobs(agent_environ: Mapping[str, str]) -> int:
    """What an agent's status page says."""
    place = agent_environ["PROVIDER_AGENT__TELEMETRY__STATUS_LISTEN"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{place}/status") as response:
        return int((await response.json())["active_jobs"])


@asynccontextmanager
async def line(
    directory: Path,
    *,
    apart: bool,
    agent: Mapping[str, str] | None = None,
    coordinator: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    wait: Waiter = wait_until,
) -> AsyncIterator[Line]:
    """Engine, coordinator, proxy and agent; `apart` makes processes of the two programs.

    `agent` and `coordinator` are settings; `environ` is more for the environment of both.
    """
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        engine = await stack.enter_async_context(TapeEngine())
        told = coordinator_settings(**(coordinator or {})) | dict(environ or {})
        front: Any = coordinator_apart(told) if apart else coordinator_here(told)
        await stack.enter_async_context(front)
        port: int = (await front.event("listening"))["port"]
        proxy = await stack.enter_async_context(FaultProxy(port))
        told = agent_settings(directory, proxy.port, engine, **(agent or {})) | dict(environ or {})
        worker: Any = agent_apart(told) if apart else agent_here(told, wait)
        await stack.enter_async_context(worker)
        await worker.event("ready")
        yield Line(engine, proxy, front, worker, port, told)
