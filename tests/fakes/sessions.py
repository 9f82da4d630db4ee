"""Sessions of one agent, one after another, each with the coordinator's end of its socket in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.identity import Identity
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.reconnect import SessionEnd
from provider_agent.agent.resume import LastSession
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.agent.session import Credentials, Duties, Session
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.frames import AuthOk, Capabilities, Frame, Limits, Metadata
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.channel import Channel
from tests.fakes.backends import ScriptedBackend
from tests.fakes.peers import HOST
from tests.fakes.sockets import MemorySocket, join

WAIT_S = 5.0


@dataclass
class Stage:
    """A running session, and the coordinator's end of its socket."""

    peer: MemorySocket
    session: Session
    executor: Executor
    running: asyncio.Task[SessionEnd]
    host: "Host"

    @property
    def accepted(self) -> list[AuthOk]:
        return self.host.accepted

    @property
    def announced(self) -> list[int]:
        return self.host.announced

    @property
    def drains(self) -> list[float | None]:
        return self.host.drains

    async def end(self) -> SessionEnd:
        async with asyncio.timeout(WAIT_S):
            return await self.running

    async def lose(self) -> SessionEnd:
        """The connection breaks."""
        self.peer.drop()
        return await self.end()


def say(peer: MemorySocket, message: bytes) -> None:
    """Whatever it is."""
    peer.send(message)
    peer.flush()


async def no_heartbeats(_post: Callable[[Frame], None], _interval_s: float) -> None:
    await asyncio.Event().wait()


@dataclass
class Host:
    """An agent's process, as far as sessions see it.

    Attributes:
        ended: what telemetry learned of each job.
        accepted, announced, drains: what the sessions told.
        begun, sockets: each session so far, and the agent's end of its socket.
    """

    identity: Identity
    table: RoutingTable
    executor: Executor
    tasks: asyncio.TaskGroup
    ended: list[EndedJob]
    enrollment_code: str | None = None
    allow_legacy: bool = False
    step_limit_s: float = WAIT_S
    beat: Callable[..., object] = no_heartbeats
    last: LastSession = field(default_factory=LastSession)
    accepted: list[AuthOk] = field(default_factory=list)
    announced: list[int] = field(default_factory=list)
    drains: list[float | None] = field(default_factory=list)
    begun: list[asyncio.Task[SessionEnd]] = field(default_factory=list)
    sockets: list[MemorySocket] = field(default_factory=list)

    def begin(self, socket: MemorySocket | None = None) -> Stage:
        """The next session."""
        ours, theirs = join(socket or MemorySocket(), MemorySocket())
        self.sockets.append(ours)
        duties = Duties(
            self._capabilities,
            self.beat,  # type: ignore[arg-type]
            self.accepted.append,
            self.announced.append,
            self.drains.append,
        )
        session = Session(
            Channel(ours, Link(Role.AGENT)),
            self.executor,
            Credentials(self.identity, HOST, self.enrollment_code, self.allow_legacy),
            duties,
            last=self.last,
            step_limit_s=self.step_limit_s,
        )
        self.begun.append(self.tasks.create_task(session.run()))
        return Stage(theirs, session, self.executor, self.begun[-1], self)

    def _capabilities(self) -> Capabilities:
        limits = Limits(max_concurrent_total=self.executor.limits.max_concurrent)
        return Capabilities(
            revision=1, models=self.table.offers, limits=limits, metadata=Metadata(agent_version="1")
        )


@asynccontextmanager
async def hosting(
    identity: Identity, *backends: ScriptedBackend, max_concurrent: int = 8, **options: object
) -> AsyncIterator[Host]:
    """A process without any session yet; leaving it ends all."""
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    table = RoutingTable(Catalog(entries), Policy())
    ended: list[EndedJob] = []
    limits = ExecutorLimits(max_concurrent=max_concurrent)
    clock = asyncio.get_running_loop().time
    executor = Executor(table, limits, clock=clock, on_end=ended.append)
    async with executor, asyncio.TaskGroup() as tasks:
        host = Host(identity, table, executor, tasks, ended, **options)  # type: ignore[arg-type]
        yield host
        for task in host.begun:
            task.cancel()


@asynccontextmanager
async def session(
    identity: Identity,
    *backends: ScriptedBackend,
    socket: MemorySocket | None = None,
    **options: object,
) -> AsyncIterator[Stage]:
    """One session that has just begun."""
    async with hosting(identity, *backends, **options) as host:  # type: ignore[arg-type]
        yield host.begin(socket)
