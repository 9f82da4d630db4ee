"""The coordinator's address, and who answers there: one after another, as they crash and are replaced."""

import asyncio
import random
from collections.abc import Callable

from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.enrollment import Accepted
from provider_agent.coordinator.session import Peer, Session, SessionTimes
from provider_agent.protocol.frames import AuthResponse
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.channel import Channel
from provider_agent.transport.dialled import DialError
from provider_agent.transport.socket import Socket
from tests.simulation.agents import HOST
from tests.simulation.network import Wire
from tests.simulation.story import Story
from tests.simulation.witness import Witness


class MadeUpEnrollment:
    """Believes every name."""

    schemes = ("ed25519-bound",)
    server = HOST

    def challenge(self) -> bytes:
        return bytes(32)

    async def verify(self, _nonce: bytes, response: AuthResponse, _host: str, _remote: str) -> Accepted:
        return Accepted(response.pubkey)


class Coordinator:
    """One process: a dispatcher, and the sessions of its agents.

    Attributes:
        tasks: all that runs in it.
        is_gone: its clients have lost their connections.
    """

    def __init__(self, number: int, limits: DispatchLimits, story: Story) -> None:
        clock = asyncio.get_running_loop().time
        self.name = f"c{number}"
        self.dispatcher = Dispatcher(
            limits, clock=clock, on_event=lambda event: story.tell(self.name, event), new_job_id=self._job_id
        )
        self.is_gone = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._jobs = 0
        self._sessions: dict[Session, None] = {}  # in order, as all that a story depends on

    def _job_id(self) -> str:
        self._jobs += 1
        return f"{self.name}-j{self._jobs}"

    async def serve(self, socket: Socket) -> None:
        channel = Channel(socket, Link(Role.COORDINATOR))
        session = Session(channel, self.dispatcher, MadeUpEnrollment(), SessionTimes())
        self._sessions[session] = None
        try:
            await session.serve(Peer(host=HOST, remote="test"))
        finally:
            del self._sessions[session]

    async def leave(self, grace_s: float) -> None:
        """SIGTERM."""
        await self.dispatcher.drain(grace_s)
        for session in tuple(self._sessions):
            session.end(1001, "drain:deploy")
        _, *serving = self.tasks
        if serving:
            await asyncio.wait(serving)
        await self.kill()

    async def kill(self) -> None:
        self.is_gone.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


class Deployment:
    """Where agents and clients find the coordinator of the moment.

    Attributes:
        wires: the newest connection of each agent.
    """

    def __init__(
        self, limits: DispatchLimits, rng: random.Random, story: Story, tasks: asyncio.TaskGroup
    ) -> None:
        self.wires: dict[str, Wire] = {}
        self._limits = limits
        self._rng = rng
        self._story = story
        self._tasks = tasks
        self._witnesses: dict[str, Witness] = {}
        self._dials = 0
        self._starts = 0
        self.current = self._start()

    def _start(self) -> Coordinator:
        self._starts += 1
        coordinator = Coordinator(self._starts, self._limits, self._story)
        coordinator.tasks.append(self._tasks.create_task(coordinator.dispatcher.watch()))
        return coordinator

    def dial(self, name: str) -> Socket:
        """A new wire from this agent to the coordinator of the moment."""
        if self._rng.random() < 0.05:
            raise DialError("refused", "nothing listens there")
        self._dials += 1
        wire = self.wires[name] = Wire(f"w{self._dials}:{name}", self._latency_s())
        self._witnesses.setdefault(name, Witness(name, self._story)).watch(wire)
        self._story.tell(wire.name, "dialled to", self.current.name)
        self.current.tasks.append(self._tasks.create_task(self.current.serve(wire.ends["coordinator"])))
        return wire.ends["agent"]

    def _latency_s(self) -> Callable[[], float]:
        usual_s = self._rng.choice((0.0, 0.001, 0.05, 0.3))
        return lambda: usual_s * (0.5 + self._rng.random())

    async def crash(self) -> None:
        """SIGKILL, and a new process at the same address at once."""
        self._story.tell(self.current.name, "crashes")
        for wire in self.wires.values():
            wire.cut()
        old, self.current = self.current, self._start()
        await old.kill()

    async def replace(self, grace_s: float) -> None:
        """A deploy: the next one answers already while the old one leaves."""
        self._story.tell(self.current.name, "is replaced")
        old, self.current = self.current, self._start()
        await old.leave(grace_s)

    async def stop(self) -> None:
        """The end of the run."""
        await self.current.kill()
