"""The agents' door: a WebSocket becomes a session; knows no frame and no job."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.session import Enrollment, Peer, Session, SessionTimes
from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.accepted import accept
from provider_agent.transport.channel import Channel, ChannelClosed

PATH = "/v1/agents/connect"

DRAIN = 1001

STRANGER_BYTES = 256 * 1024
"""The largest message of a stranger: an answer to the challenge, which may list a thousand jobs."""


class AgentDoor:
    """Lets agents in at `PATH`, and says goodbye to them all when the server stops."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        enrollment: Enrollment,
        *,
        heartbeat_interval_ms: int = 15_000,
        step_timeout_s: float = 10.0,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._enrollment = enrollment
        self._times = SessionTimes(heartbeat_interval_ms, step_timeout_s)
        self._on_event = on_event
        self._sessions: set[Session] = set()
        self._is_closed = False
        self._empty = asyncio.Event()  # `_sessions` is
        self._empty.set()

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(PATH, self._handle)
        app.on_shutdown.append(lambda _: self.goodbye())

    async def goodbye(self, code: int = DRAIN, reason: str = "drain:deploy") -> None:
        """Let nobody in any more, end every session, and wait until they are over: a second at most, each.

        To be called before the server is shut down: from then on it reads nothing, not even the answer
        to a close, so each goodbye would take its whole second.
        """
        self._is_closed = True
        for session in tuple(self._sessions):
            session.end(code, reason)
        await self._empty.wait()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._is_closed:
            raise web.HTTPServiceUnavailable(reason="the coordinator is stopping")
        try:
            socket = await accept(request, max_message_bytes=STRANGER_BYTES)
        except ChannelClosed:
            return web.Response(status=400)  # nobody is there to read it

        def trust() -> None:
            socket.max_message_bytes = MAX_MESSAGE_BYTES

        session = Session(
            Channel(socket, Link(Role.COORDINATOR)),
            self._dispatcher,
            self._enrollment,
            self._times,
            on_event=self._on_event,
            on_accepted=trust,
        )
        self._sessions.add(session)
        self._empty.clear()
        try:
            await session.serve(Peer(host=request.host, remote=request.remote or ""))
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                self._empty.set()
        return socket.response
