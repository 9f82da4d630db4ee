"""Every frame that the two sides exchange, a frozen struct each; knows neither bytes nor turns.

Field names are the wire's. `docs/protocol.md` is the contract; a field that it does not
mark as protocol 2 is left out for a protocol-2 peer (`codec.PROTOCOL_2_FIELDS`).
"""

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from provider_agent.protocol.errors import Stage
from provider_agent.protocol.fields import (
    LARGEST_COUNT,
    U32,
    ChunkNumber,
    Count,
    JobId,
    Milliseconds,
    Name,
    Part,
)
from provider_agent.protocol.vitals import BackendStatus, Failure, HardwarePressure

PROTOCOL = 3
"""The highest protocol that this version speaks."""

LEGACY_PROTOCOL = 2

LEGACY_DEADLINE_MS = 60_000
"""`job.deadline_ms` when a protocol-2 coordinator does not say."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message that either side accepts."""

MAX_MESSAGE_TEXT = 2048
"""The longest `job_error.message`, in characters."""

MOST_MODELS = 10_000
"""The most models that one agent offers: even with the longest names, the list of them fits a message."""


class Format(Enum):
    """The dialect of a job's request body."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Scheme(Enum):
    """Which bytes an agent's signature covers."""

    BOUND = "ed25519-bound"
    LEGACY = "ed25519"


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag=_snake):
    """What is on the wire; `type` is the class name in snake case."""


# --- handshake ---------------------------------------------------------------------------


class ResumeJob(Part, frozen=True, kw_only=True):
    """A job that the agent still has, or whose outcome nobody acknowledged; `next_seq`: of its next chunk."""

    job_id: JobId
    attempt: Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
    next_seq: Count


class Resume(Part, frozen=True, kw_only=True):
    """The session that broke off, and the agent's jobs of it."""

    session_id: str
    jobs: tuple[ResumeJob, ...]


class ResumedJob(Part, frozen=True, kw_only=True):
    """A job that goes on: what follows `have_seq` is to be sent again."""

    job_id: JobId
    have_seq: ChunkNumber


class Resumed(Part, frozen=True, kw_only=True):
    """What becomes of the jobs of a `Resume`; the unknown ones are to be given up."""

    jobs: tuple[ResumedJob, ...]
    unknown: tuple[JobId, ...] = ()


class AuthChallenge(Frame, frozen=True, kw_only=True):
    """C→A. Prove who you are: sign this nonce (base64, at least 32 random bytes)."""

    nonce: str
    protocol: Count = LEGACY_PROTOCOL
    server: str | None = None
    schemes: tuple[str, ...] = (Scheme.LEGACY.value,)


class AuthResponse(Frame, frozen=True, kw_only=True):
    """A→C. Public key (base64, 32 bytes), signature (base64, 64 bytes), and a code on first contact."""

    pubkey: str
    signature: str
    agent_version: str
    enrollment_code: str | None = None
    protocol: Count = LEGACY_PROTOCOL
    scheme: str = Scheme.LEGACY.value
    resume: Resume | None = None


class AuthOk(Frame, frozen=True, kw_only=True):
    """C→A. You are in. `resume_window_ms`: how long a lost session is waited for; `binary`: chunks may be."""

    provider_id: Name
    session_id: str | None = None
    protocol: Count = LEGACY_PROTOCOL
    heartbeat_interval_ms: Milliseconds = 15_000
    resume_window_ms: Count = 0
    binary: bool = False
    resumed: Resumed | None = None


class AuthFailed(Frame, frozen=True, kw_only=True):
    """C→A. You are not; `retry` says whether trying again unchanged can help."""

    reason: str
    code: str | None = None
    retry: bool = True
    retry_after_ms: Milliseconds | None = None


# --- capabilities ------------------------------------------------------------------------


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model that an agent serves. Prices: integer micro-units per million tokens; 0 is free.

    Attributes:
        warm: it is in memory, so that a job need not wait for it to load; None when that is not known.
        features: of `tools`, `vision`, `audio` and `thinking` what it can do; None when that is not known.
    """

    model_id: Name
    backend: str
    max_concurrent: Count
    input_per_1m: Count
    output_per_1m: Count
    context_window: Count | None = None
    endpoints: tuple[str, ...] = ("/v1/chat/completions",)
    fingerprint: str | None = None
    warm: bool | None = None
    features: tuple[str, ...] | None = None


class UnreadableOffer(ModelOffer, frozen=True, kw_only=True):
    """Stands in `Capabilities.models` for an entry that breaks the rules; is never sent, and offers nothing.

    Attributes:
        model_id: as far as it could be read, else "".
        reason: which field is at fault, and why; never holds a value of the peer's.
    """

    backend: str = ""
    max_concurrent: Count = 0
    input_per_1m: Count = 0
    output_per_1m: Count = 0
    reason: str


class Limits(Part, frozen=True, kw_only=True):
    """What an agent takes on at most."""

    max_concurrent_total: Count
    max_tokens_per_minute: Count | None = None
    max_job_bytes: Count | None = None


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who an agent is, as far as its operator wants to say."""

    agent_version: str
    name: str = ""
    contact_email: str = ""
    wallet: str = ""
    labels: dict[str, str] = {}


class Capabilities(Frame, frozen=True, kw_only=True):
    """A→C. What this agent serves now; may be sent again with a higher revision."""

    models: tuple[ModelOffer, ...]
    limits: Limits
    metadata: Metadata
    revision: Count = 0
    catalog_fingerprint: str | None = None


class RejectedModel(Part, frozen=True, kw_only=True):
    """A model that the coordinator will not send jobs for."""

    model_id: str
    reason: str


class CapabilitiesOk(Frame, frozen=True, kw_only=True):
    """C→A. That revision was taken."""

    revision: Count
    rejected: tuple[RejectedModel, ...] = ()


# --- jobs --------------------------------------------------------------------------------


class Job(Frame, frozen=True, kw_only=True):
    """C→A. Serve this request. Times are in milliseconds; `attempt` grows with each dispatch."""

    job_id: JobId
    model_id: Name
    request: Raw
    format: Format = Format.OPENAI
    deadline_ms: Milliseconds | None = None
    endpoint: Name | None = None
    stream: bool = True
    first_byte_timeout_ms: Milliseconds | None = None
    idle_timeout_ms: Milliseconds | None = None
    attempt: Annotated[int, Meta(ge=1, le=LARGEST_COUNT)] = 1
    stream_id: U32 | None = None
    window_bytes: Count | None = None
    traceparent: str | None = None

    @property
    def path(self) -> str:
        """The endpoint on the backend, with the default of the job's format."""
        if self.endpoint is not None:
            return self.endpoint
        return "/v1/messages" if self.format is Format.ANTHROPIC else "/v1/chat/completions"


class JobCancel(Frame, frozen=True, kw_only=True):
    """C→A. Nobody wants this answer any more."""

    job_id: JobId
    reason: str | None = None


class JobAck(Frame, frozen=True, kw_only=True):
    """C→A. Every chunk up to `seq` was taken by the consumer; the outcome's own `seq`: that it is here."""

    job_id: JobId
    seq: Count


class JobStarted(Frame, frozen=True, kw_only=True):
    """A→C. The backend's response headers are here."""

    job_id: JobId
    backend: str
    upstream_model: str
    http_status: Count
    content_type: str


class JobChunk(Frame, frozen=True, kw_only=True):
    """A→C. Bytes of the backend's body; chunk borders carry no meaning. `seq` counts from 0 per job."""

    job_id: JobId
    data: bytes
    seq: Count | None = None


class BinaryChunk(Frame, frozen=True, kw_only=True):
    """A→C. A `JobChunk` in the binary form, which alone can be sent; `stream_id` is of the job's frame."""

    stream_id: int
    seq: int
    data: bytes


class Tokens(Part, frozen=True, kw_only=True):
    """What the backend counted; null where it did not say. Both spellings are in use in the field."""

    input: Count | None = None
    output: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None

    @classmethod
    def of(cls, input_tokens: int | None, output_tokens: int | None) -> "Tokens":
        return cls(
            input=input_tokens, output=output_tokens, input_tokens=input_tokens, output_tokens=output_tokens
        )


class Timings(Part, frozen=True, kw_only=True):
    """Where a job's time went, in milliseconds; null where it never came so far."""

    first_byte_ms: Count | None = None
    backend_ms: Count | None = None
    stalled_ms: Count | None = None


class JobDone(Frame, frozen=True, kw_only=True):
    """A→C. The outcome of a job whose answer is whole. `seq` is one more than the last chunk's."""

    job_id: JobId
    tokens: Tokens
    duration_ms: Count
    seq: Count | None = None
    chunks: Count | None = None
    bytes: Count | None = None
    timings: Timings | None = None


class JobError(Frame, frozen=True, kw_only=True):
    """A→C. The outcome of a job whose answer is not whole. `tokens_emitted` counts output tokens."""

    job_id: JobId
    error_code: Name
    message: str
    tokens_emitted: Count | None = None
    bytes_sent: Count | None = None
    seq: Count | None = None
    stage: Stage | None = None
    retryable: bool | None = None
    retry_after_ms: Count | None = None
    http_status: Count | None = None
    tokens: Tokens | None = None
    duration_ms: Count | None = None


# --- life of a session -------------------------------------------------------------------


class Heartbeat(Frame, frozen=True, kw_only=True, omit_defaults=False):
    """A→C. True numbers over the last 60 s; null when there were no samples."""

    queue_depth: Count
    tokens_per_sec_p50: float | None = None
    p50_latency_ms: float | None = None
    p95_latency_ms: float | None = None
    error_rate_60s: float | None = None
    last_error_at: str | None = None
    last_error_code: str | None = None
    active_jobs: Count | None = None
    max_concurrency: Count | None = None
    free_slots: Count | None = None
    draining: bool | None = None
    avg_latency_ms: float | None = None
    recent_failures: tuple[Failure, ...] = ()
    backends: tuple[BackendStatus, ...] = ()
    catalog_fingerprint: str | None = None
    uptime_s: float | None = None
    agent_version: str | None = None
    hardware_pressure: HardwarePressure | msgspec.UnsetType = msgspec.UNSET


class Drain(Frame, frozen=True, kw_only=True):
    """C→A. Finish what you have and leave."""

    reason: str = ""
    deadline_ms: Milliseconds | None = None


FromCoordinator = AuthChallenge | AuthOk | AuthFailed | CapabilitiesOk | Job | JobCancel | JobAck | Drain
FromAgent = AuthResponse | Capabilities | JobStarted | JobChunk | JobDone | JobError | Heartbeat
Outcome = JobDone | JobError
