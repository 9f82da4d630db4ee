"""Either side of a conversation, played by a test over any `Socket`.

`ScriptedCoordinator` and `ScriptedAgent` are built on `Link` and the codec, so a script that breaks
the protocol fails by itself, and so does whatever breaks it towards them. `RawPeer` speaks plain
JSON objects and knows no frame: it shows what is really on the wire. Every wait is bounded.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Raw

from provider_agent.protocol.auth import signed_bytes
from provider_agent.protocol.codec import decode, encode
from provider_agent.protocol.frames import (
    LEGACY_PROTOCOL,
    PROTOCOL,
    AuthChallenge,
    AuthOk,
    AuthResponse,
    BinaryChunk,
    Capabilities,
    CapabilitiesOk,
    Frame,
    Heartbeat,
    Job,
    JobAck,
    JobCancel,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Limits,
    Metadata,
    ModelOffer,
    Outcome,
    Resume,
    Resumed,
    ResumedJob,
    ResumeJob,
    Scheme,
    Tokens,
)
from provider_agent.protocol.link import Link, Role
from provider_agent.transport.channel import Socket

WAIT_S = 5.0
"""How long a script waits for what it expects."""

NONCE = bytes(range(32))
HOST = "coordinator.test"

EVERY_ENDPOINT = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/rerank",
    "/v1/responses", "/api/chat", "/api/embed", "/api/generate",
)  # fmt: skip

F = TypeVar("F", bound=Frame)


class RawPeer:
    """Speaks JSON objects, and knows neither frames nor turns."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    async def say(self, **members: Any) -> None:
        self.socket.send(json.dumps(members).encode())
        self.socket.flush()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            message: dict[str, Any] = json.loads(await self.socket.receive())
        return message

    async def hear_type(self, frame_type: str) -> dict[str, Any]:
        """The next message, which must be of this type; heartbeats are passed over."""
        while True:
            message = await self.hear()
            if message["type"] == frame_type:
                return message
            assert message["type"] == "heartbeat", f"expected {frame_type}, got {message}"

    async def welcome(self) -> dict[str, Any]:
        """Play a protocol-2 coordinator up to the capabilities, and give those."""
        await self.say(type="auth_challenge", nonce=base64.b64encode(NONCE).decode())
        await self.hear_type("auth_response")
        await self.say(type="auth_ok", provider_id="prov-1")
        return await self.hear_type("capabilities")


class _Scripted:
    """What both scripted sides share.

    Attributes:
        link: whose turn it is, and which dialect.
        heard: every frame that came, in order.
    """

    role: Role

    def __init__(self, socket: Socket, *, protocol: int = PROTOCOL) -> None:
        self.socket = socket
        self.link = Link(self.role)
        self.heard: list[Frame] = []
        self._speaks = protocol

    async def say(self, *frames: Frame) -> None:
        for frame in frames:
            self.link.send(frame)
            message = encode(frame, self.link.protocol)
            if message is not None:
                self.socket.send(message)
                self.socket.flush()

    async def hear(self) -> Frame:
        """The next frame, whatever it is."""
        async with asyncio.timeout(WAIT_S):
            frame = decode(await self.socket.receive(), self.role.peer)
        self.link.receive(frame)
        self.heard.append(frame)
        return frame

    async def expect(self, kind: type[F]) -> F:
        """The next frame, which must be of this kind; heartbeats and acknowledgements are passed over."""
        while True:
            frame = await self.hear()
            if isinstance(frame, kind):
                return frame
            assert isinstance(frame, Heartbeat | JobAck), f"expected {kind.__name__}, got {frame}"

    async def until(self, kind: type[F]) -> F:
        """The next frame of this kind, past any others."""
        while True:
            frame = await self.hear()
            if isinstance(frame, kind):
                return frame

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.socket.close(code, reason)


@dataclass
class Answer:
    """What came of one job; complains as soon as the order of its frames is wrong."""

    started: JobStarted | None = None
    chunks: list[JobChunk] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def data(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def done(self) -> JobDone:
        assert isinstance(self.outcome, JobDone), self.outcome
        return self.outcome

    @property
    def error(self) -> JobError:
        assert isinstance(self.outcome, JobError), self.outcome
        return self.outcome

    def take(self, frame: JobStarted | JobChunk | JobDone | JobError) -> None:
        assert self.outcome is None, f"{frame} follows the outcome {self.outcome}"
        if isinstance(frame, JobStarted):
            assert self.started in (None, frame), "started twice"
            assert not self.chunks, "started after its chunks"
            self.started = frame
        elif isinstance(frame, JobChunk):
            assert frame.seq in (None, len(self.chunks)), f"{frame.seq} follows {len(self.chunks) - 1}"
            self.chunks.append(frame)
        else:
            self.outcome = frame


class ScriptedCoordinator(_Scripted):
    """The coordinator's side: greets an agent, sends jobs, keeps the answers by job id.

    With `host`, the agent's signature must cover that host, as the agent must have dialled it. With the
    `answers` of an earlier session, it goes on with those.

    Attributes:
        acks: whether it acknowledges what it hears of jobs, at once, to an agent that speaks protocol 3.
    """

    role = Role.COORDINATOR

    def __init__(
        self,
        socket: Socket,
        *,
        protocol: int = PROTOCOL,
        host: str | None = None,
        answers: dict[str, Answer] | None = None,
    ) -> None:
        super().__init__(socket, protocol=protocol)
        self.answers = {} if answers is None else answers
        self.acks = True
        self._host = host
        self._streams: dict[int, str] = {}

    async def welcome(
        self, provider_id: str = "prov-1", *, heartbeat_interval_ms: int = 15_000, resume_window_ms: int = 0
    ) -> Capabilities:
        """The whole handshake; gives the agent's first capabilities."""
        response = await self.challenge()
        self.check_signature(response)
        return await self.accept(
            provider_id, heartbeat_interval_ms=heartbeat_interval_ms, resume_window_ms=resume_window_ms
        )

    async def welcome_back(self, *, resume_window_ms: int = 60_000) -> AuthResponse:
        """The handshake with an agent whose session broke off; every job that we know goes on."""
        response = await self.challenge()
        assert response.resume is not None
        listed = [job.job_id for job in response.resume.jobs]
        resumed = Resumed(
            jobs=tuple(
                ResumedJob(job_id=job_id, have_seq=len(self.answers[job_id].chunks) - 1)
                for job_id in listed
                if job_id in self.answers
            ),
            unknown=tuple(job_id for job_id in listed if job_id not in self.answers),
        )
        await self.accept(resume_window_ms=resume_window_ms, resumed=resumed)
        return response

    async def challenge(self, schemes: Sequence[Scheme] = (Scheme.BOUND, Scheme.LEGACY)) -> AuthResponse:
        await self.say(
            AuthChallenge(
                nonce=base64.b64encode(NONCE).decode(),
                protocol=self._speaks,
                server="scripted",
                schemes=tuple(scheme.value for scheme in schemes),
            )
        )
        return await self.expect(AuthResponse)

    async def accept(self, provider_id: str = "prov-1", **fields: Any) -> Capabilities:
        """Let the agent in; `fields` are further ones of `auth_ok`."""
        terms: dict[str, Any] = {"session_id": "session-1", "protocol": self._speaks} | fields
        await self.say(AuthOk(provider_id=provider_id, **terms))
        capabilities = await self.expect(Capabilities)
        await self.say(CapabilitiesOk(revision=capabilities.revision))
        return capabilities

    def check_signature(self, response: AuthResponse) -> None:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(response.pubkey))
        scheme = Scheme(response.scheme)
        if self._host is None and scheme is Scheme.BOUND:
            return
        try:
            key.verify(base64.b64decode(response.signature), signed_bytes(scheme, self._host or "", NONCE))
        except InvalidSignature:
            raise AssertionError(f"the signature does not cover {self._host!r} and the nonce") from None

    async def dispatch(self, job_id: str, model_id: str = "m", body: object = None, **fields: Any) -> None:
        request = Raw(json.dumps({"messages": []} if body is None else body).encode())
        if "stream_id" in fields:
            self._streams[fields["stream_id"]] = job_id
        await self.say(Job(job_id=job_id, model_id=model_id, request=request, **fields))

    async def cancel(self, job_id: str) -> None:
        await self.say(JobCancel(job_id=job_id))

    async def hear(self) -> Frame:
        frame = await super().hear()
        if isinstance(frame, BinaryChunk):
            frame = JobChunk(job_id=self._streams[frame.stream_id], data=frame.data, seq=frame.seq)
        if isinstance(frame, JobStarted | JobChunk | JobDone | JobError):
            self.answers.setdefault(frame.job_id, Answer()).take(frame)
            if self.acks and not isinstance(frame, JobStarted) and self.link.protocol > LEGACY_PROTOCOL:
                await self.ack(frame)
        return frame

    async def ack(self, frame: JobChunk | Outcome) -> None:
        """Say that this was taken, and all before it; a refusal has nothing to acknowledge."""
        if frame.seq is not None:
            await self.say(JobAck(job_id=frame.job_id, seq=frame.seq))

    async def answer(self, job_id: str) -> Answer:
        """All that comes of one job, up to its outcome; other frames are kept where they belong."""
        while (answer := self.answers.setdefault(job_id, Answer())).outcome is None:
            await self.hear()
        return answer


class ScriptedAgent(_Scripted):
    """The agent's side: joins with a real key, takes jobs, answers them as the test says.

    Attributes:
        session_id: of the session that it is in.
    """

    role = Role.AGENT

    def __init__(self, socket: Socket, *, protocol: int = PROTOCOL, host: str = HOST) -> None:
        super().__init__(socket, protocol=protocol)
        self.key = Ed25519PrivateKey.generate()
        self.provider_id = ""
        self.session_id = ""
        self._host = host
        self._next_seq: dict[str, int] = {}

    def again(self, socket: Socket) -> "ScriptedAgent":
        """The same agent over a new connection; `resume` names this session."""
        newer = ScriptedAgent(socket, protocol=self._speaks, host=self._host)
        newer.key, newer.session_id = self.key, self.session_id
        return newer

    async def join(self, *models: str, max_concurrent: int = 4, enrollment_code: str | None = None) -> AuthOk:
        """The whole handshake, offering these models."""
        await self.respond(enrollment_code=enrollment_code)
        return await self._enter(*models, max_concurrent=max_concurrent)

    async def resume(self, *jobs: ResumeJob, models: Sequence[str] = ("m",)) -> AuthOk:
        """The same, but that these jobs of the last session are to go on; those that do are re-numbered."""
        await self.respond(resume=Resume(session_id=self.session_id, jobs=jobs))
        accepted = await self._enter(*models)
        for job in accepted.resumed.jobs if accepted.resumed is not None else ():
            self._next_seq[job.job_id] = job.have_seq + 1
        return accepted

    async def _enter(self, *models: str, max_concurrent: int = 4) -> AuthOk:
        accepted = await self.expect(AuthOk)
        self.provider_id, self.session_id = accepted.provider_id, accepted.session_id or ""
        await self.offer(*models, max_concurrent=max_concurrent)
        return accepted

    async def respond(self, *, enrollment_code: str | None = None, resume: Resume | None = None) -> None:
        """Answer the challenge with the best scheme that is offered."""
        challenge = await self.expect(AuthChallenge)
        scheme = Scheme.BOUND if Scheme.BOUND.value in challenge.schemes else Scheme.LEGACY
        signature = self.key.sign(signed_bytes(scheme, self._host, base64.b64decode(challenge.nonce)))
        await self.say(
            AuthResponse(
                pubkey=base64.b64encode(self.key.public_key().public_bytes_raw()).decode(),
                signature=base64.b64encode(signature).decode(),
                agent_version="0.0.0-scripted",
                enrollment_code=enrollment_code,
                protocol=self._speaks,
                scheme=scheme.value,
                resume=resume,
            )
        )

    async def offer(self, *models: str, max_concurrent: int = 4, revision: int = 1) -> None:
        await self.say(
            Capabilities(
                models=tuple(
                    ModelOffer(
                        model_id=model_id,
                        backend="scripted",
                        max_concurrent=max_concurrent,
                        input_per_1m=0,
                        output_per_1m=0,
                        endpoints=EVERY_ENDPOINT,
                    )
                    for model_id in sorted(models)
                ),
                limits=Limits(max_concurrent_total=max_concurrent),
                metadata=Metadata(agent_version="0.0.0-scripted", name="scripted"),
                revision=revision,
            )
        )
        if self.link.protocol > LEGACY_PROTOCOL:
            await self.expect(CapabilitiesOk)

    async def start(
        self, job: Job, *, http_status: int = 200, content_type: str = "text/event-stream"
    ) -> None:
        await self.say(
            JobStarted(
                job_id=job.job_id,
                backend="scripted",
                upstream_model=job.model_id,
                http_status=http_status,
                content_type=content_type,
            )
        )

    async def chunk(self, job_id: str, *parts: bytes) -> None:
        for data in parts:
            await self.say(JobChunk(job_id=job_id, data=data, seq=self._take_seq(job_id)))

    async def binary_chunk(self, job: Job, *parts: bytes) -> None:
        for data in parts:
            assert job.stream_id is not None
            await self.say(BinaryChunk(stream_id=job.stream_id, seq=self._take_seq(job.job_id), data=data))

    def _take_seq(self, job_id: str) -> int:
        seq = self._next_seq.get(job_id, 0)
        self._next_seq[job_id] = seq + 1
        return seq

    async def done(self, job_id: str, input_tokens: int | None = 1, output_tokens: int | None = 1) -> None:
        seq = self._next_seq.pop(job_id, 0)
        tokens = Tokens.of(input_tokens, output_tokens)
        await self.say(JobDone(job_id=job_id, tokens=tokens, duration_ms=1, seq=seq, chunks=seq))

    async def fail(self, job_id: str, code: str, **fields: Any) -> None:
        seq = self._next_seq.pop(job_id, 0)
        await self.say(
            JobError(job_id=job_id, error_code=code, message=f"scripted {code}", seq=seq, **fields)
        )

    async def serve(self, *parts: bytes) -> Job:
        """Take one job and answer it whole with these bytes."""
        job = await self.expect(Job)
        await self.start(job)
        await self.chunk(job.job_id, *parts)
        await self.done(job.job_id)
        return job

    async def heartbeat(self, **fields: Any) -> None:
        await self.say(Heartbeat(**{"queue_depth": 0, **fields}))


def handshake(protocol: int = PROTOCOL) -> tuple[tuple[Role, Frame], ...]:
    """Who says what until jobs are served, when the coordinator speaks `protocol`."""
    key = base64.b64encode(bytes(32)).decode()
    return (
        (Role.COORDINATOR, AuthChallenge(nonce=key, protocol=protocol)),
        (Role.AGENT, AuthResponse(pubkey=key, signature=key, agent_version="1", protocol=protocol)),
        (Role.COORDINATOR, AuthOk(provider_id="prov-1", protocol=protocol)),
        (
            Role.AGENT,
            Capabilities(
                models=(), limits=Limits(max_concurrent_total=1), metadata=Metadata(agent_version="1")
            ),
        ),
    )


def serving_link(role: Role, protocol: int = PROTOCOL) -> Link:
    """A link that has its handshake behind it."""
    link = Link(role)
    for sender, frame in handshake(protocol):
        (link.send if sender is role else link.receive)(frame)
    return link
