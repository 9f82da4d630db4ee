"""The agent's contact with its coordinator: dials, proves who it is, holds the session that there is now.

Knows no engine; what a session asks of the process goes on to its duties.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from provider_agent.agent.config import AgentConfig, ConfigError
from provider_agent.agent.executor import Executor
from provider_agent.agent.reconnect import UNKNOWN_IDENTITY, SessionEnd
from provider_agent.agent.resume import LastSession
from provider_agent.agent.session import Credentials, Duties, Session
from provider_agent.protocol.frames import AuthOk, Heartbeat
from provider_agent.protocol.link import Link, Role
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.channel import Channel, Socket
from provider_agent.transport.dialled import DialOptions, dial

log = get_logger(__name__)

Dial = Callable[[], Awaitable[Socket]]
"""Opens a socket to the coordinator; raises DialError."""


class Contact:
    """One coordinator, and one session with it at a time.

    Attributes:
        dial: how it is reached.
    """

    def __init__(
        self,
        config: AgentConfig,
        credentials: Credentials,
        executor: Executor,
        duties: Duties,
        *,
        dial: Dial | None = None,
    ) -> None:
        """`config` is that of the start: where to dial does not change while the process runs."""
        self.dial = dial or self._dial
        self._config = config
        self._credentials = credentials
        self._executor = executor
        self._duties = duties
        self._session: Session | None = None
        self._last = LastSession()

    @property
    def server_host(self) -> str:
        return self._credentials.server_host

    @property
    def is_up(self) -> bool:
        """Whether the coordinator has let us in, and is still there."""
        return self._session is not None and self._session.is_up

    def announce(self) -> None:
        """Send the present capabilities, if somebody is there; a new session begins with them."""
        if self._session is not None:
            self._session.announce()

    def tell(self, heartbeat: Heartbeat) -> None:
        """Say now how we are, before the next beat."""
        if self._session is not None:
            self._session.tell(heartbeat)

    async def leave(self, within_s: float) -> None:
        """Let go what waits to leave, and close."""
        if self._session is not None:
            await self._session.leave(within_s=within_s)

    async def serve(self, socket: Socket) -> SessionEnd:
        """Run a session on this socket to its end."""
        duties = replace(self._duties, on_accepted=self._accepted)
        channel = Channel(socket, Link(Role.AGENT))
        self._session = Session(channel, self._executor, self._credentials, duties, last=self._last)
        try:
            end = await self._session.run()
        finally:
            self._session = None
        if end.auth_failed is not None and end.auth_failed.code == UNKNOWN_IDENTITY:
            return self._forgotten(end)
        return end

    def _accepted(self, frame: AuthOk) -> None:
        identity, host = self._credentials.identity, self.server_host
        if identity.provider_id(host) != frame.provider_id:
            identity.remember_provider_id(host, frame.provider_id)
        self._duties.on_accepted(frame)

    def _forgotten(self, end: SessionEnd) -> SessionEnd:
        """The coordinator lost its data, or is a new one at an old address: enrol again, if there is a code.

        A code that was sent and refused is not tried twice: then no id was remembered here.
        """
        identity, host = self._credentials.identity, self.server_host
        if identity.provider_id(host) is None:
            return end
        identity.forget_provider_id(host)
        try:
            code = self._config.enrollment_code()
        except ConfigError as error:
            log.warning("enrollment_code_missing", problem=str(error))
            code = None
        if code is None:
            return end
        self._credentials = replace(self._credentials, enrollment_code=code)
        return SessionEnd(
            reason="the coordinator does not know this agent any more; it enrols again", by_us=True
        )

    async def _dial(self) -> Socket:
        section = self._config.coordinator
        options = DialOptions(
            ca_file=section.ca_file,
            client_cert_file=section.client_cert_file,
            client_key_file=section.client_key_file,
            proxy=section.proxy,
        )
        return await dial(section.url, options)
