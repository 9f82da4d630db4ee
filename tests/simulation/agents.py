"""Whole agents of which only the network and the engine are made up, and their crashes."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
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
    """Knows its engines from the beginning, finds no other, and believes that one is dead for a moment."""

    def __init__(
        self, engines: Sequence[SimulatedEngine], use: Callable[[Catalog], None], rng: random.Random
    ) -> None:
        self._engines = engines
        self._use = use
        self._rng = rng
        self._dead: set[str] = set()

    async def run(self) -> None:
        self._publish()
        await asyncio.Event().wait()

    def report_unreachable(self, backend_name: str) -> None:
        """The only engine has recovered before anybody could look; one of several is away for a while."""
        if len(self._engines) > 1:
            self._dead.add(backend_name)
            self._publish()
            asyncio.get_running_loop().call_later(self._rng.uniform(0, 4), self._find, backend_name)

    def report_changed(self, _backend_name: str) -> None:
        """Nothing has changed when somebody looks."""

    def _find(self, backend_name: str) -> None:
        self._dead.discard(backend_name)
        self._publish()

    def _publish(self) -> None:
        alive = [engine for engine in self._engines if engine.name not in self._dead]
        self._use(Catalog(tuple(CatalogEntry(engine, engine.models, healthy=True) for engine in alive)))


class SimulatedAgent(Agent):
    """An agent that can be looked into."""

    @property
    def executor_for_tests(self) -> Executor:
        """To see whether it lets go of everything."""
        return self._executor


def _no_network(name: str) -> Socket:
    raise DialError("unreachable", f"{name} has no network")


class Machine:
    """One operator's machine: engines, and an agent that is started, stopped, killed and started again.

    Attributes:
        engines: one to three, which share the slots of the agent.
        agent: the process that runs there now, if one does.
        dial: its way to the coordinator.
        exit_codes: of those that ended by themselves.
    """

    def __init__(
        self, name: str, config: AgentConfig, *, rng: random.Random, story: Story, tasks: asyncio.TaskGroup
    ) -> None:
        slots = config.limits.max_concurrent
        self.name = name
        count = min(slots, rng.choice((1, 1, 2, 3)))
        self.engines = [
            SimulatedEngine(f"engine {number} of {name}", rng, story, slots=-(-slots // count))
            for number in range(count)
        ]
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
        clock, dial = asyncio.get_running_loop().time, self.dial

        async def call() -> Socket:
            return dial(self.name)

        agent = SimulatedAgent(self._config, credentials, on_event=self._note, clock=clock, dial=call)
        self.agent = agent
        discovery = MadeUpDiscovery(self.engines, agent.use, self._rng)
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
