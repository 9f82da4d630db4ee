"""The coordinator's doors and sessions around one dispatcher, with agents on sockets in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.enrollment import Accepted, Enrollment, Rejected
from provider_agent.coordinator.events import Event, JobEnded
from provider_agent.coordinator.http.anthropic import AnthropicDoor
from provider_agent.coordinator.http.errors import tell_errors
from provider_agent.coordinator.http.ollama import OllamaDoor
from provider_agent.coordinator.http.openai import OpenAIDoor
from provider_agent.coordinator.http.server import Runner
from provider_agent.coordinator.session import Peer, Session, SessionTimes
from provider_agent.coordinator.store.base import StoreError
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.protocol.frames import PROTOCOL, AuthResponse
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.channel import Channel
from tests.fakes.peers import HOST, NONCE, ScriptedAgent
from tests.fakes.sockets import MemorySocket, join

LIMIT_S = 10.0
"""How long one test may take."""

PEER = Peer(HOST, "192.0.2.7")
PATIENT = SessionTimes(heartbeat_interval_ms=60_000, step_timeout_s=60.0)


async def until(condition: Callable[[], bool]) -> None:
    """Let others go on until this holds; for state of the dispatcher, which announces nothing."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0)


class ScriptedEnrollment:
    """Gives everybody the same verdict, or none: `StoreError` is raised, and None is never given."""

    schemes = ("ed25519-bound",)
    server = "test"

    def __init__(self, verdict: Accepted | Rejected | StoreError | None) -> None:
        self._verdict = verdict

    def challenge(self) -> bytes:
        return NONCE

    async def verify(
        self, nonce: bytes, response: AuthResponse, host: str, remote: str
    ) -> Accepted | Rejected:
        assert (nonce, host, remote) == (NONCE, PEER.host, PEER.remote)
        if self._verdict is None:
            await asyncio.Event().wait()
        if isinstance(self._verdict, StoreError):
            raise self._verdict
        assert self._verdict is not None
        return self._verdict


@dataclass
class Hall:
    """One dispatcher with sessions on sockets in memory.

    Attributes:
        events: what was told, in order.
        sessions: those that were begun, in order, with their tasks.
    """

    tasks: asyncio.TaskGroup
    dispatcher: Dispatcher
    events: list[Event]
    sessions: list[tuple[Session, asyncio.Task[None]]] = field(default_factory=list)
    enrollment: Enrollment | ScriptedEnrollment = field(
        default_factory=lambda: Enrollment(MemoryStore(), server_names=(HOST,), dev=True)
    )
    times: SessionTimes = PATIENT

    @property
    def told_statuses(self) -> list[int]:
        """The HTTP status of every job that ended, as it goes into the metrics."""
        return [event.status for event in self.events if isinstance(event, JobEnded)]

    def connect(self, ours: MemorySocket | None = None) -> MemorySocket:
        """A new connection; gives the agent's end."""
        ours, theirs = join(ours or MemorySocket(), MemorySocket())
        session = Session(
            Channel(ours, Link(Role.COORDINATOR)),
            self.dispatcher,
            self.enrollment,
            self.times,
            on_event=self.events.append,
        )
        self.sessions.append((session, self.tasks.create_task(session.serve(PEER))))
        return theirs

    async def agent(self, *models: str, protocol: int = PROTOCOL, max_concurrent: int = 4) -> ScriptedAgent:
        """An agent that is in, and whose models are on offer."""
        agent = ScriptedAgent(self.connect(), protocol=protocol)
        await agent.join(*(models or ("m",)), max_concurrent=max_concurrent)
        # Protocol 2 does not say when its capabilities are taken.
        await until(lambda: any(each.offers for each in self.dispatcher.fleet.providers))
        return agent


@asynccontextmanager
async def hall(limits: DispatchLimits | None = None, **parts: Any) -> AsyncIterator[Hall]:
    """A dispatcher that lets agents in; at the end every session is closed."""
    loop = asyncio.get_running_loop()
    events: list[Event] = []
    dispatcher = Dispatcher(limits or DispatchLimits(), clock=loop.time, on_event=events.append)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        made = Hall(tasks, dispatcher, events, **parts)
        watching = tasks.create_task(dispatcher.watch())
        try:
            yield made
        finally:
            watching.cancel()
            for session, _ in made.sessions:
                session.end(1001, "the test is over")


@dataclass
class Front(Hall):
    """The same with the clients' doors before it, on loopback."""

    client: aiohttp.ClientSession = field(kw_only=True)

    def post(self, body: bytes, path: str = "/v1/chat/completions") -> Any:
        return self.client.post(path, data=body)

    def chat(self, *, stream: bool, model: str = "m") -> Any:
        return self.post(b'{"model":"%s","stream":%s}' % (model.encode(), b"true" if stream else b"false"))

    def ask(self, *, stream: bool = False) -> "asyncio.Task[tuple[int, bytes]]":
        """Send a request; its task gives status and body."""

        async def answer() -> tuple[int, bytes]:
            async with self.chat(stream=stream) as response:
                return response.status, await response.read()

        return self.tasks.create_task(answer())


def error_in(body: bytes) -> dict[str, Any]:
    """The error of a JSON body, or of the event that ends a stream."""
    error: dict[str, Any] = json.loads(body.rsplit(b"data: ", 1)[-1])["error"]
    return error


@asynccontextmanager
async def front(
    limits: DispatchLimits | None = None,
    *,
    dev: bool = True,
    store: MemoryStore | None = None,
    keepalive_s: float = 60.0,
    max_body_bytes: int = 1024**2,
) -> AsyncIterator[Front]:
    """The clients' doors over a hall, as `app.py` builds them."""
    async with hall(limits) as inner:
        app = web.Application(client_max_size=max_body_bytes, middlewares=[tell_errors])
        admission = Admission(store or MemoryStore(), dev=dev)
        OpenAIDoor(inner.dispatcher, admission, keepalive_s=keepalive_s, created=1_700_000_000).add_to(app)
        AnthropicDoor(inner.dispatcher, admission, keepalive_s=keepalive_s).add_to(app)
        OllamaDoor(inner.dispatcher, admission, keepalive_s=keepalive_s).add_to(app)
        runner = Runner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession(url) as client:
                yield Front(inner.tasks, inner.dispatcher, inner.events, inner.sessions, client=client)
        finally:
            await runner.cleanup()
