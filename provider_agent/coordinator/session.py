"""One conversation with an agent: handshake, then its frames to the dispatcher. Knows no HTTP and no job.

It ends in one of these ways, and each says so in its close frame (protocol.md 10):

1. The agent closes, or the connection breaks.
2. The agent is rejected: `auth_failed`, then 4001, or 1008 if it may try again.
3. It speaks out of turn, or what it says is no frame at all: 4003. A frame that can be read, but
   is bad, is no reason: it costs at most the job that it speaks of.
4. It is too slow in the handshake: 4003. It has missed three heartbeats: 4008.
5. Somebody on this side called `end`.

1, but not with a code of `FINAL_FOR_THEM`, and 4 leave an agent that is known the way back: its jobs wait.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from provider_agent.coordinator import events
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.enrollment import Accepted, Rejected
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.fleet import Provider
from provider_agent.coordinator.store.base import StoreError
from provider_agent.protocol import frames
from provider_agent.protocol.errors import BadFrame, RemoteTurnError
from provider_agent.protocol.frames import Frame
from provider_agent.protocol.link import State
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.channel import Channel, ChannelClosed

POLICY = 1008
TRY_AGAIN_LATER = 1013
REVOKED = 4001
PROTOCOL_ERROR = 4003
HEARTBEAT_LOST = 4008

FINAL_FOR_THEM = frozenset({1000, REVOKED, PROTOCOL_ERROR})
"""With these an agent leaves for good: it stops, or we cannot talk to each other."""

MISSED_HEARTBEATS = 3

MAX_BAD_FRAMES = 1000
"""Bad frames of one session that are forgiven: more is no accident, and each costs a log line."""

LEGACY_HEARTBEAT_MS = 15_000
"""Protocol 2 does not tell the agent an interval; this is the one in the field."""

log = get_logger(__name__)


class Enrollment(Protocol):
    """Who may join; see `coordinator/enrollment.py`."""

    @property
    def schemes(self) -> tuple[str, ...]: ...
    @property
    def server(self) -> str: ...
    def challenge(self) -> bytes: ...
    async def verify(
        self, nonce: bytes, response: frames.AuthResponse, host: str, remote: str
    ) -> Accepted | Rejected: ...


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """`step_timeout_s` is for each step of the handshake."""

    heartbeat_interval_ms: int = 15_000
    step_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an agent came from: the host it says it dialled, and its address."""

    host: str
    remote: str


class _Over(Exception):
    """This side ends the session.

    Attributes:
        code, reason: of the close frame.
        result: what the handshake counts as, if it was not over.
        was_silent: only because nothing was heard, which may be the network's doing.
    """

    def __init__(
        self, code: int, reason: str, result: str = "protocol_error", *, was_silent: bool = False
    ) -> None:
        super().__init__(code, reason, result, was_silent)
        self.code = code
        self.reason = reason
        self.result = result
        self.was_silent = was_silent


_LOST = _Over(1011, "the connection ended", "lost")
_HANDSHAKE_DUE = _Over(PROTOCOL_ERROR, "the answer to the challenge took too long", "timeout")
_CAPABILITIES_DUE = _Over(PROTOCOL_ERROR, "the capabilities took too long", was_silent=True)
_HEARTBEAT_DUE = _Over(HEARTBEAT_LOST, "three heartbeats were missed", was_silent=True)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a session ended.

    Attributes:
        over: what is to be said in the close frame.
        code: of the close frame that was sent or came; None is a connection that broke.
        is_final: the agent is not coming back to what it has here.
        was_silent: it was not heard for some time before.
    """

    over: _Over
    code: int | None
    is_final: bool
    was_silent: bool = False


def _ended_by_us(over: _Over) -> _Ending:
    return _Ending(over, over.code, is_final=not over.was_silent, was_silent=over.was_silent)


def _ended_below(closed: ChannelClosed) -> _Ending:
    """By the peer, or by the transport, which gives a peer up that it does not hear any more."""
    code = closed.code
    is_final = code is not None if closed.by_us else code in FINAL_FOR_THEM
    return _Ending(_LOST, code, is_final=is_final, was_silent=closed.by_us and code is None)


class Session:
    """One agent for as long as its connection lasts.

    Attributes:
        session_id: what the agent is told to name when it resumes.
    """

    def __init__(
        self,
        channel: Channel,
        dispatcher: Dispatcher,
        enrollment: Enrollment,
        times: SessionTimes,
        *,
        on_event: Callable[[Event], None] = lambda _: None,
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_accepted` is called once the agent is known for who it is."""
        self.session_id = secrets.token_hex(16)
        self._channel = channel
        self._dispatcher = dispatcher
        self._enrollment = enrollment
        self._times = times
        self._on_event = on_event
        self._on_accepted = on_accepted
        self._patience: asyncio.Timeout | None = None
        self._when_it_ends = _HANDSHAKE_DUE
        self._ended = False  # somebody called `end`
        self._provider: Provider | None = None  # once it is authenticated
        self._bad_frames = 0

    # --- what the dispatcher calls: nothing waits -----------------------------------------

    def post(self, frame: Frame) -> None:
        self._channel.post(frame)

    def end(self, code: int, reason: str) -> None:
        """Close the session; only the first call counts."""
        if not self._ended:
            self._be_patient(0, _Over(code, reason))
            self._ended = True

    # --- the conversation -----------------------------------------------------------------

    async def serve(self, peer: Peer) -> None:
        """Talk to the agent until the session is over and the socket closed."""
        over = _LOST
        try:
            over = await self._converse(peer)
        finally:
            await self._channel.close(over.code, over.reason)  # what was posted before leaves before

    async def _converse(self, peer: Peer) -> _Over:
        """The whole conversation; gives back how it is to be closed."""
        limit_s = 0.0 if self._ended else self._times.step_timeout_s
        ending = _Ending(_LOST, None, is_final=False)  # a server whose connection breaks cancels its handler
        try:
            async with asyncio.timeout(limit_s) as self._patience:
                await self._handshake(peer)
                await self._read()
        except TimeoutError:
            ending = _ended_by_us(self._when_it_ends)
        except _Over as ours:
            ending = _ended_by_us(ours)
        except ChannelClosed as closed:
            ending = _ended_below(closed)
        finally:
            self._patience = None
            self._leave(ending, peer)
        return ending.over

    def _leave(self, ending: _Ending, peer: Peer) -> None:
        log.info("agent_session_over", code=ending.code, reason=ending.over.reason, remote=peer.remote)
        if self._provider is None:
            self._on_event(events.HandshakeEnded(ending.over.result))
            return
        self._dispatcher.part(
            self._provider, self, resumable=not ending.is_final, was_silent=ending.was_silent
        )
        self._on_event(events.SessionEnded(ending.code))

    def _be_patient(self, for_s: float, when_it_ends: _Over) -> None:
        """From now on, the session ends after so many seconds, and in this way."""
        if self._ended:
            return
        self._when_it_ends = when_it_ends
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + for_s)

    async def _handshake(self, peer: Peer) -> None:
        channel, enrollment = self._channel, self._enrollment
        nonce = enrollment.challenge()
        channel.post(
            frames.AuthChallenge(
                nonce=base64.b64encode(nonce).decode(),
                protocol=frames.PROTOCOL,
                server=enrollment.server or None,
                schemes=enrollment.schemes,
            )
        )
        try:
            response = await channel.receive()
        except (BadFrame, RemoteTurnError) as error:
            raise _Over(PROTOCOL_ERROR, str(error)) from None
        assert isinstance(response, frames.AuthResponse)  # noqa: S101 - the link lets nothing else through
        self._be_patient(self._times.step_timeout_s, _HANDSHAKE_DUE)
        try:
            verdict = await enrollment.verify(nonce, response, peer.host, peer.remote)
        except StoreError:
            raise _Over(TRY_AGAIN_LATER, "the coordinator cannot look up identities now") from None
        if isinstance(verdict, Rejected):
            self._reject(verdict)
        self._accept(verdict, response, peer)

    def _reject(self, verdict: Rejected) -> NoReturn:
        self._channel.post(
            frames.AuthFailed(
                reason=verdict.reason,
                code=verdict.code,
                retry=verdict.retry,
                retry_after_ms=verdict.retry_after_ms,
            )
        )
        code = POLICY if verdict.retry else REVOKED
        raise _Over(code, verdict.reason, verdict.code or "rejected")

    def _accept(self, verdict: Accepted, response: frames.AuthResponse, peer: Peer) -> None:
        self._on_accepted()
        protocol = self._channel.protocol
        self._provider, resumed = self._dispatcher.join(
            verdict.provider_id, self, protocol, response.resume, given_name=verdict.name
        )
        self._channel.post(
            frames.AuthOk(
                provider_id=verdict.provider_id,
                session_id=self.session_id,
                protocol=frames.PROTOCOL,
                heartbeat_interval_ms=self._times.heartbeat_interval_ms,
                resume_window_ms=round(self._dispatcher.limits.resume_window_s * 1000),
                binary=protocol > frames.LEGACY_PROTOCOL,
                resumed=resumed,
            )
        )
        self._on_event(events.HandshakeEnded("ok"))
        self._be_patient(self._times.step_timeout_s, _CAPABILITIES_DUE)
        log.info(
            "agent_accepted",
            provider_id=verdict.provider_id,
            session_id=self.session_id,
            protocol=protocol,
            resumed_jobs=len(resumed.jobs) if resumed is not None else 0,
            remote=peer.remote,
        )

    async def _read(self) -> None:
        """Hand frames over until the session ends."""
        provider, receive, deliver = self._provider, self._channel.receive, self._dispatcher.deliver
        assert provider is not None  # noqa: S101 - for mypy: the handshake is over
        try:
            while True:
                try:
                    frame = await receive()
                except BadFrame as bad:
                    self._take_bad(provider, bad)
                    continue
                deliver(provider, frame)
                if isinstance(frame, frames.Heartbeat | frames.Capabilities):
                    self._expect_heartbeat()
        except RemoteTurnError as error:
            raise _Over(PROTOCOL_ERROR, str(error)) from None

    def _expect_heartbeat(self) -> None:
        if self._channel.link.state is not State.SERVING:
            return  # a heartbeat does not stand in for the capabilities
        interval_ms = self._times.heartbeat_interval_ms
        if self._channel.protocol <= frames.LEGACY_PROTOCOL:
            interval_ms = max(interval_ms, LEGACY_HEARTBEAT_MS)
        self._be_patient(MISSED_HEARTBEATS * interval_ms / 1000, _HEARTBEAT_DUE)

    def _take_bad(self, provider: Provider, bad: BadFrame) -> None:
        """Only the job that it speaks of suffers; but what is no frame at all is no protocol of ours."""
        self._bad_frames += 1
        if (
            not bad.frame_type
            or self._channel.link.state is not State.SERVING
            or self._bad_frames > MAX_BAD_FRAMES
        ):
            raise _Over(PROTOCOL_ERROR, str(bad))
        log.warning("bad_frame_ignored", agent=provider.name, job_id=bad.job_id, reason=str(bad))
        self._dispatcher.deliver_bad(provider, bad)
