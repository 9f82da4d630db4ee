"""One authenticated connection in time: handshake, capabilities, then a job at a time to the executor.

Knows neither how the socket was dialled nor what a job does; it lends the executor its channel.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from provider_agent import __version__
from provider_agent.agent.connector import SessionEnd
from provider_agent.agent.executor import Executor
from provider_agent.agent.identity import Identity
from provider_agent.agent.reconnect import outlived_by_jobs
from provider_agent.agent.resume import LastSession
from provider_agent.agent.waiting import mind_cancel
from provider_agent.protocol.auth import (
    MIN_NONCE_BYTES,
    AuthError,
    choose_scheme,
    decode_exact,
    signed_bytes,
)
from provider_agent.protocol.errors import BadFrame, RemoteTurnError
from provider_agent.protocol.frames import (
    LEGACY_DEADLINE_MS,
    LEGACY_PROTOCOL,
    PROTOCOL,
    AuthChallenge,
    AuthFailed,
    AuthOk,
    AuthResponse,
    Capabilities,
    CapabilitiesOk,
    Drain,
    Frame,
    Heartbeat,
    Job,
    JobAck,
    JobCancel,
    Resume,
)
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.channel import Channel, ChannelClosed

STEP_LIMIT_S = 10.0
"""How long each step of the handshake may take."""

SHORTEST_HEARTBEAT_INTERVAL_MS = 1000
"""Nobody can make the agent spin by asking for more heartbeats than this."""

PROTOCOL_ERROR = 4003
"""The close code for a peer that breaks the protocol."""

log = get_logger(__name__)

F = TypeVar("F", bound=Frame)
E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How this agent proves who it is.

    Attributes:
        server_host: the host that was dialled; the signature is bound to it.
        enrollment_code: used once, while the identity has no provider id at this host.
        allow_legacy: whether the unbound signature of protocol 2 may be used.
    """

    identity: Identity
    server_host: str
    enrollment_code: str | None = None
    allow_legacy: bool = False


@dataclass(frozen=True, slots=True)
class Duties:
    """What a session asks of the process around it.

    Attributes:
        capabilities: the present offer, as a frame.
        beat: sends heartbeats by the given function every so many seconds; ends by being cancelled.
        on_accepted: the coordinator let us in, under these terms.
        on_announced: the coordinator knows our capabilities of this revision.
        on_drain: the coordinator asks us to leave within so many seconds (None: our own limit).
    """

    capabilities: Callable[[], Capabilities]
    beat: Callable[[Callable[[Frame], None], float], Coroutine[None, None, None]]
    on_accepted: Callable[[AuthOk], None] = lambda _: None
    on_announced: Callable[[int], None] = lambda _: None
    on_drain: Callable[[float | None], None] = lambda _: None


class _Rejected(Exception):
    """The coordinator said no; carries its frame."""

    def __init__(self, frame: AuthFailed) -> None:
        super().__init__(frame.reason)
        self.frame = frame


class Session:
    """Runs one channel from the challenge to its end, and says how it ended."""

    def __init__(
        self,
        channel: Channel,
        executor: Executor,
        credentials: Credentials,
        duties: Duties,
        *,
        last: LastSession | None = None,
        step_limit_s: float = STEP_LIMIT_S,
    ) -> None:
        """`last` is the session before this one, which may be resumed; it becomes this one."""
        self._channel = channel
        self._executor = executor
        self._credentials = credentials
        self._duties = duties
        self._last = LastSession() if last is None else last
        self._step_limit_s = step_limit_s
        self._accepted = False

    @property
    def is_up(self) -> bool:
        """Whether the coordinator has let us in."""
        return self._accepted

    def announce(self) -> None:
        """Send the present capabilities, once the handshake is over."""
        if not self._accepted:
            return
        capabilities = self._duties.capabilities()
        self._channel.post(capabilities)
        if self._channel.protocol <= LEGACY_PROTOCOL:  # which has no capabilities_ok
            self._duties.on_announced(capabilities.revision)

    def tell(self, frame: Heartbeat) -> None:
        """Send this now, if the coordinator has let us in."""
        if self._accepted:
            self._channel.post(frame)

    async def leave(self, within_s: float = 0.0) -> None:
        """Send what still waits, for so long if it must be, then close: the process is going."""
        await self._channel.close(1000, "the agent is leaving", within_s=within_s)

    async def run(self) -> SessionEnd:
        """Serve until the session ends; jobs may outlive it."""
        end = SessionEnd()
        try:
            async with asyncio.TaskGroup() as tasks:
                accepted = await self._handshake()
                interval_ms = max(accepted.heartbeat_interval_ms, SHORTEST_HEARTBEAT_INTERVAL_MS)
                tasks.create_task(self._duties.beat(self._channel.post, interval_ms / 1000))
                await self._serve()
        except* ChannelClosed as group:
            closed = _first(group)
            end = SessionEnd(closed.code, closed.reason, by_us=closed.by_us, accepted=self._accepted)
        except* _Rejected as group:
            end = SessionEnd(auth_failed=_first(group).frame)
        except* (BadFrame, RemoteTurnError, AuthError, TimeoutError) as group:
            reason = str(_first(group)) or f"no answer within {self._step_limit_s:g} s in the handshake"
            end = SessionEnd(PROTOCOL_ERROR, reason, by_us=True, accepted=self._accepted)
        except* Exception:
            # The other task boundary: a defect that one coordinator's frames bring to light must not take
            # the process and its jobs with it. It slows down like any protocol error, and is told in full.
            log.exception("session_crashed")
            reason = "a defect in the agent ended the session"
            end = SessionEnd(PROTOCOL_ERROR, reason, by_us=True, accepted=self._accepted)
        finally:
            self._part(end)
            await self._channel.close(end.code or 1000, end.reason)
        mind_cancel()
        return end

    def _part(self, end: SessionEnd) -> None:
        """Let the executor know what becomes of its jobs. A try that was not accepted leaves them waiting."""
        refused_for_good = end.auth_failed is not None and not end.auth_failed.retry
        if self._accepted:
            self._executor.detach(self._last.window_s if outlived_by_jobs(end) else 0.0)
        elif refused_for_good:
            self._executor.detach(0.0)

    # --- handshake ------------------------------------------------------------------------

    async def _handshake(self) -> AuthOk:
        challenge = await self._step(AuthChallenge)
        self._channel.post(self._answer(challenge))
        accepted = await self._step(AuthOk)
        self._duties.on_accepted(accepted)
        self._accepted = True
        channel = self._channel
        self._last.note(accepted, channel.protocol)
        channel.binary = accepted.binary and channel.protocol > LEGACY_PROTOCOL
        self.announce()  # before anything of a job is said
        self._executor.attach(channel, accepted.resumed)
        return accepted

    async def _step(self, expected: type[F]) -> F:
        """The next frame, which must be of this type, or the coordinator's refusal."""
        async with asyncio.timeout(self._step_limit_s):
            frame = await self._channel.receive()
        if isinstance(frame, AuthFailed):
            raise _Rejected(frame)
        if not isinstance(frame, expected):
            raise BadFrame("is out of turn in the handshake", frame_type=type(frame).__name__)
        return frame

    def _answer(self, challenge: AuthChallenge) -> AuthResponse:
        own, identity = self._credentials, self._credentials.identity
        scheme = choose_scheme(challenge.schemes, allow_legacy=own.allow_legacy)
        nonce = decode_exact(challenge.nonce, "the nonce of the challenge", at_least=MIN_NONCE_BYTES)
        signature = identity.sign(signed_bytes(scheme, own.server_host, nonce))
        known = identity.provider_id(own.server_host) is not None
        return AuthResponse(
            pubkey=identity.public_key_b64,
            signature=base64.b64encode(signature).decode(),
            agent_version=__version__,
            enrollment_code=None if known else own.enrollment_code,
            protocol=PROTOCOL,
            scheme=scheme.value,
            resume=self._resume(),
        )

    def _resume(self) -> Resume | None:
        """What we would take up again, if this coordinator speaks of such things."""
        if self._channel.protocol <= LEGACY_PROTOCOL:
            return None
        return self._last.resume(self._executor.resumable(), self._executor.resume_left_s)

    # --- serving --------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            try:
                frame = await self._channel.receive()
            except BadFrame as bad:
                self._take_bad(bad)
            else:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        """The frequent ones first."""
        if isinstance(frame, JobAck):
            self._executor.ack(frame.job_id, frame.seq)
        elif isinstance(frame, Job):
            if frame.deadline_ms is None and self._channel.protocol <= LEGACY_PROTOCOL:
                frame = msgspec.structs.replace(frame, deadline_ms=LEGACY_DEADLINE_MS)
            self._executor.submit(frame)
        elif isinstance(frame, JobCancel):
            self._executor.cancel(frame.job_id)
        else:
            self._take_news(frame)

    def _take_news(self, frame: Frame) -> None:
        match frame:
            case CapabilitiesOk(revision=revision, rejected=rejected):
                for model in rejected:
                    log.warning("model_rejected", model_id=model.model_id, reason=model.reason)
                self._duties.on_announced(revision)
            case Drain(reason=reason, deadline_ms=deadline_ms):
                log.info("drain_requested", reason=reason)
                self._duties.on_drain(None if deadline_ms is None else deadline_ms / 1000)

    def _take_bad(self, bad: BadFrame) -> None:
        """A bad frame ends its job or nothing; only what is no frame at all ends the session."""
        if not bad.frame_type:
            raise bad
        log.warning("bad_frame", problem=str(bad), job_id=bad.job_id)
        if bad.frame_type == "job" and bad.job_id:
            self._executor.refuse_malformed(bad)


def _first(group: BaseExceptionGroup[E]) -> E:
    """The first plain exception in the group."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
