"""What happened in the coordinator, as records for whoever counts, logs or shows it; knows no sink."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentJoined:
    """An agent is authenticated; it offers nothing yet."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class AgentLeft:
    """An agent's session is over, and it is not waited for."""

    provider_id: str
    name: str


@dataclass(frozen=True, slots=True)
class AgentAway:
    """An agent's session broke off; its jobs wait for its return."""

    provider_id: str
    name: str


@dataclass(frozen=True, slots=True)
class AgentBack:
    """An agent resumed its session over a new connection; what it serves is known."""

    provider_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CapabilitiesTaken:
    """An agent said what it serves."""

    provider_id: str
    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobDispatched:
    """A job was sent to an agent; `attempt` counts from 1, `waited_s` since its arrival."""

    job_id: str
    model_id: str
    agent: str
    attempt: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An agent gave the outcome of a job, or its session ended first; `code` None is done."""

    job_id: str
    agent: str
    code: str | None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A client has its answer, its error, or left.

    Attributes:
        code: None is done.
        status: what its client saw, or would have seen had it stayed.
        attempts: number of dispatches; 0 for a job that was refused or never left the queue.
        first_byte_s, duration_s: since its arrival.
    """

    job_id: str
    model_id: str
    endpoint: str
    client: str
    agent: str
    code: str | None
    status: int
    attempts: int
    first_byte_s: float | None
    duration_s: float
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class HandshakeEnded:
    """`result` is `ok`, a code of `auth_failed`, `timeout`, `protocol_error` or `lost`."""

    result: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A connection of an agent is over; `close_code` None is a connection that broke."""

    close_code: int | None


Event = (
    AgentJoined
    | AgentLeft
    | AgentAway
    | AgentBack
    | CapabilitiesTaken
    | JobDispatched
    | AttemptEnded
    | JobEnded
    | HandshakeEnded
    | SessionEnded
)
