"""Whole agents of which only the network and the engine are made up, and their crashes."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from provider_agent.agent.app import Agent
from provider_agent.agent.config import AgentConfig, load
from provider_agent.agent.executor import Executor
from provider_agent.agent.session import Credentials
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.transport.dialled import DialError
from provider_agent.transport.socket import Socket
from tests.simulation.engine import SimulatedEngine
from tests.simulation.story import Story

HOST = "coordinator.test"

Dial = Callable[[str], Socket]
"""Given an agent's name, gives its end of a new wire; raises DialError."""


def configuration(**settings: str) -> AgentConfig:
    """Read once for many runs: it is frozen."""
    environ = {
        "PROVIDER_AGENT__COORDINATOR__URL": f"wss://{HOST}/v1/agents/connect",
        "PROVIDER_AGENT__TELEMETRY__STATUS_LISTEN": "",
        **settings,
    }
    return load(None, environ)


@dataclass
class MadeUpIdentity:
    """Has a name instead of a key; the network lets only the right ones through."""

    name: str
    known: dict[str, str] = field(default_factory=dict)

    @property
    def public_key_b64(self) -> str:
        return self.name

    def sign(self, _data: bytes) -> bytes:
        return b""

    def provider_id(self, host: str) -> str | None:
        return self.known.get(host)

    def remember_provider_id(self, host: str, provider_id: str) -> None:
        self.known[host] = provider_id

    def forget_provider_id(self, host: str) -> None:
        self.known.pop(host, None)


class MadeUpDiscovery:
    """Knows one engine from the beginning, and finds no other."""

    def __init__(self, engine: SimulatedEngine, use: Callable[[Catalog], None]) -> None:
        self._engine = engine
        self._use = use

    async def run(self) -> None:
        self._use(Catalog((CatalogEntry(self._engine, self._engine.models, healthy=True),)))
        await asyncio.Event().wait()

    def report_unreachable(self, _backend_name: str) -> None:
        """It has recovered before anybody could look."""


class SimulatedAgent(Agent):
    """Dials over the simulated network."""

    dial: Dial
    name: str

    async def _dial(self) -> Socket:
        return self.dial(self.name)

    @property
    def executor_for_tests(self) -> Executor:
        """To see whether it lets go of everything."""
        return self._executor


def _no_network(name: str) -> Socket:
    raise DialError("unreachable", f"{name} has no network")


class Machine:
    """One operator's machine: an engine, and an agent that is started, stopped, killed and started again.

    Attributes:
        agent: the process that runs there now, if one does.
        dial: its way to the coordinator.
        exit_codes: of those that ended by themselves.
    """

    def __init__(
        self, name: str, config: AgentConfig, *, rng: random.Random, story: Story, tasks: asyncio.TaskGroup
    ) -> None:
        slots = config.limits.max_concurrent
        self.name = name
        self.engine = SimulatedEngine(f"engine of {name}", rng, story, slots=slots)
        self.identity = MadeUpIdentity(name)
        self.agent: SimulatedAgent | None = None
        self.dial: Dial = _no_network
        self.exit_codes: list[int] = []
        self._config = config
        self._rng = rng
        self._story = story
        self._tasks = tasks
        self._process: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        if self._process is None:
            self._stop = asyncio.Event()
            self._process = self._tasks.create_task(self._run(self._stop))

    async def _run(self, stop: asyncio.Event) -> None:
        credentials = Credentials(self.identity, HOST, None)  # type: ignore[arg-type]
        clock = asyncio.get_running_loop().time
        agent = SimulatedAgent(self._config, credentials, on_event=self._note, clock=clock)
        agent.dial, agent.name, self.agent = self.dial, self.name, agent
        discovery = MadeUpDiscovery(self.engine, agent.use)
        try:
            code = await agent.run(discovery, stop, source=self._rng)  # type: ignore[arg-type]
            self.exit_codes.append(code)
            self._story.tell(self.name, "exit", code)
        finally:
            self.agent = self._process = None

    def _note(self, event: str, facts: Mapping[str, object]) -> None:
        self._story.tell(self.name, event, facts)

    def terminate(self) -> None:
        """SIGTERM."""
        self._stop.set()

    async def kill(self) -> None:
        """SIGKILL, after its connections are cut: nothing more is heard of it."""
        if self._process is not None:
            self._story.tell(self.name, "killed")
            self._process.cancel()
            await asyncio.wait((self._process,))
