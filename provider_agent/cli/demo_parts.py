"""The demo's parts, started and stopped together: engine, coordinator, agent; knows no terminal."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provider_agent.agent import app as agent_app
from provider_agent.agent.config import AgentConfig
from provider_agent.agent.config_sections import (
    BackendSection,
    CoordinatorSection,
    DiscoverySection,
    IdentitySection,
    LimitsSection,
    OperatorSection,
    TelemetrySection,
)
from provider_agent.backends.discovery import Catalog, Discovery
from provider_agent.backends.http import EngineHttp
from provider_agent.cli.output import OnEvent
from provider_agent.coordinator import app as coordinator_app
from provider_agent.coordinator import config as coordinator_config
from provider_agent.simulator import Pace, Simulator, SimulatorConfig

PORT = 8700
START_LIMIT_S = 8.0
"""How long a part may take until it is ready."""

STOP_GRACE_S = 3.0
"""What running jobs get when the demo ends."""

CHAT = "/v1/chat/completions"

SIMULATED = SimulatorConfig(models=("simulated-7b",), pace=Pace(first_token_s=0.25, tokens_per_s=40.0))

Program = Callable[[asyncio.Event, OnEvent], Coroutine[None, None, int]]


class DemoFailed(Exception):
    """The demo cannot be shown; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that is used.

    Attributes:
        kind: its family, or `simulator`.
        model: the one that the demo talks to.
        slots: answers at a time, when that is known.
    """

    kind: str
    url: str
    model: str
    slots: int | None = None

    @property
    def is_simulated(self) -> bool:
        return self.kind == "simulator"


@dataclass(frozen=True, slots=True)
class Demo:
    """All parts, running."""

    engine: Engine
    url: str


@dataclass(frozen=True, slots=True)
class Wish:
    """Which engine, and where the coordinator listens.

    Attributes:
        simulated_only: do not look for an engine.
        model: one that an engine on this machine must offer; None for the first that can chat.
        simulated: the engine when none is found, or looked for.
        port: of the coordinator; a free one when it is taken.
    """

    simulated_only: bool = False
    model: str | None = None
    simulated: SimulatorConfig = SIMULATED
    port: int = PORT


@asynccontextmanager
async def running(directory: Path, wish: Wish, on_event: OnEvent) -> AsyncIterator[Demo]:
    """Start engine, coordinator and agent; stop them in the opposite order.

    `on_event` hears of each part as it is ready (`engine`, `coordinator`, `agent`), and of all
    that the coordinator sees from then on. `directory` keeps the agent's identity.

    Raises:
        DemoFailed: a part did not come up.
    """
    async with AsyncExitStack() as stack:
        engine = None if wish.simulated_only else await find_engine(wish.model)
        if engine is None:
            simulator = await stack.enter_async_context(Simulator(wish.simulated))
            engine = Engine("simulator", simulator.url, wish.simulated.models[0], wish.simulated.slots)
        on_event("engine", {**asdict(engine), "searched": not wish.simulated_only})
        coordinator = background(_coordinator(wish.port), "listening", "the coordinator", on_event)
        address = await stack.enter_async_context(coordinator)
        on_event("coordinator", address)
        agent = background(_agent(engine, str(address["agents_url"]), directory), "ready", "the agent")
        on_event("agent", await stack.enter_async_context(agent))
        yield Demo(engine, str(address["url"]))


async def find_engine(model: str | None) -> Engine | None:
    """An engine on this machine that can chat, if there is one. Raises DemoFailed as `choose` does."""
    async with EngineHttp() as http:
        return choose(await Discovery((), http, probe_loopback=True).refresh(), model)


def choose(catalog: Catalog, wanted: str | None) -> Engine | None:
    """The first engine and model that can chat, or the model that is wanted.

    Raises:
        DemoFailed: no engine has the model that is wanted.
    """
    engines = [
        Engine(entry.backend.kind, entry.backend.url, model.model_id, entry.backend.max_concurrent)
        for entry in catalog.entries
        for model in entry.models
        if entry.healthy and CHAT in model.endpoints and not model.is_embedding
    ]
    fitting = [engine for engine in engines if wanted in (None, engine.model)]
    if wanted is not None and not fitting:
        offered = ", ".join(engine.model for engine in engines) or "nothing"
        raise DemoFailed(f"no engine on this machine offers {wanted} for chats; they offer {offered}")
    return next(iter(fitting), None)


@asynccontextmanager
async def background(
    program: Program,
    ready: str,
    what: str,
    on_event: OnEvent = lambda _name, _fields: None,
    *,
    start_limit_s: float = START_LIMIT_S,
) -> AsyncIterator[dict[str, object]]:
    """Run a program beside the block, which begins with the facts of its `ready` event.

    Leaving tells the program to stop and waits for its end, also when the block was cancelled.

    Raises:
        DemoFailed: it ended, or took too long, before it was ready.
    """
    stop = asyncio.Event()
    facts: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def hear(name: str, fields: dict[str, object]) -> None:
        if name == ready and not facts.done():
            facts.set_result(fields)
        on_event(name, fields)

    task = asyncio.create_task(program(stop, hear))
    try:
        either: set[asyncio.Future[Any]] = {task, facts}
        await asyncio.wait(either, timeout=start_limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not facts.done():
            raise DemoFailed(_why_not_ready(task, what, start_limit_s)) from _error_of(task)
        yield facts.result()
    finally:
        stop.set()
        await _end_of(task)


async def _end_of(task: asyncio.Task[int]) -> None:
    """Wait for a program that was told to stop; one that does not is cancelled."""
    await asyncio.wait({task}, timeout=2 * STOP_GRACE_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    _error_of(task)  # looked at: who waited for the program knows it already


def _why_not_ready(task: asyncio.Task[int], what: str, start_limit_s: float) -> str:
    if not task.done():
        return f"{what} was not ready after {start_limit_s:g} seconds"
    error = _error_of(task)
    return f"{what} ended at once" if error is None else f"{what} could not start: {error}"


def _error_of(task: asyncio.Task[int]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _coordinator(port: int) -> Program:
    """A coordinator in dev mode on this port, or on a free one when it is taken."""

    async def program(stop: asyncio.Event, on_event: OnEvent) -> int:
        try:
            return await coordinator_app.run(_dev(port), stop=stop, on_event=on_event)
        except coordinator_app.CannotListen as error:
            if not error.in_use:
                raise
        return await coordinator_app.run(_dev(0), stop=stop, on_event=on_event)

    return program


def _dev(port: int) -> coordinator_config.CoordinatorConfig:
    flags = {"dev": True, "listen": f"127.0.0.1:{port}", "shutdown_grace_s": STOP_GRACE_S}
    return coordinator_config.load(flags, {})


def _agent(engine: Engine, agents_url: str, directory: Path) -> Program:
    async def program(stop: asyncio.Event, on_event: OnEvent) -> int:
        config = agent_config(engine, agents_url, directory)
        return await agent_app.run(config, stop=stop, on_event=on_event, environ={})

    return program


def agent_config(engine: Engine, agents_url: str, directory: Path) -> AgentConfig:
    """An agent for one engine, with an identity that is forgotten with the directory."""
    return AgentConfig(
        operator=OperatorSection(name="demo"),
        coordinator=CoordinatorSection(url=agents_url),
        identity=IdentitySection(key_path=directory / "identity.key"),
        backends=(
            BackendSection(
                kind="openai" if engine.is_simulated else "auto",
                url=engine.url,
                name=engine.kind,
                max_concurrent=engine.slots,
            ),
        ),
        discovery=DiscoverySection(enabled=False),
        limits=LimitsSection(shutdown_grace_s=STOP_GRACE_S),
        telemetry=TelemetrySection(status_listen=""),
    )
