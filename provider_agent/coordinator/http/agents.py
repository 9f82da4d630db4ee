"""The agents' door: a WebSocket becomes a session; knows no frame and no job."""

from collections.abc import Callable

from aiohttp import web

from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.session import Enrollment, Peer, Session, SessionTimes
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.channel import Channel, ChannelClosed
from provider_agent.transport.websocket import accept

PATH = "/v1/agents/connect"

DRAIN = 1001


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

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(PATH, self._handle)
        app.on_shutdown.append(self._say_goodbye)

    def close_all(self, code: int = DRAIN, reason: str = "drain:deploy") -> None:
        for session in tuple(self._sessions):
            session.end(code, reason)

    async def _say_goodbye(self, _app: web.Application) -> None:
        self.close_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            socket = await accept(request)
        except ChannelClosed:
            return web.Response(status=400)  # nobody is there to read it
        session = Session(
            Channel(socket, Link(Role.COORDINATOR)),
            self._dispatcher,
            self._enrollment,
            self._times,
            on_event=self._on_event,
        )
        self._sessions.add(session)
        try:
            await session.serve(Peer(host=request.host, remote=request.remote or ""))
        finally:
            self._sessions.discard(session)
        return socket.response
