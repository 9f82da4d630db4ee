"""The one table of job error codes, and the errors of the protocol itself; knows no frame and no socket.

The tree of the errors:

ProtocolError
├── BadFrame              the peer's message is no valid frame; names type, field and reason
├── UnknownFrame          the peer's frame has a type that this version does not know
└── TurnError
    ├── LocalTurnError    we tried to send out of turn: a defect of ours
    └── RemoteTurnError   the peer sent out of turn
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far a job had come when it failed."""

    REFUSED = "refused"
    BEFORE_FIRST_BYTE = "before_first_byte"
    STREAMING = "streaming"


class ErrorCode(StrEnum):
    """Why a job failed. On the wire it is text, so that a code of a newer peer still ends its job."""

    OUT_OF_CAPACITY = "out_of_capacity"
    MODEL_NOT_LOADED = "model_not_loaded"
    BACKEND_UNREACHABLE = "backend_unreachable"
    BACKEND_TIMEOUT = "backend_timeout"
    AUTH_REJECTED_BY_BACKEND = "auth_rejected_by_backend"
    INTERNAL = "internal"
    BAD_REQUEST = "bad_request"
    UNSUPPORTED_ENDPOINT = "unsupported_endpoint"
    REQUEST_TOO_LARGE = "request_too_large"
    DUPLICATE_JOB = "duplicate_job"
    DRAINING = "draining"
    RATE_LIMITED = "rate_limited"
    BACKEND_LOADING = "backend_loading"
    BACKEND_ERROR = "backend_error"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    STREAM_TRUNCATED = "stream_truncated"
    STREAM_ERROR = "stream_error"
    BACKPRESSURE_TIMEOUT = "backpressure_timeout"
    CANCELLED = "cancelled"
    SESSION_LOST = "session_lost"
    AGENT_SHUTDOWN = "agent_shutdown"
    UNKNOWN_JOB = "unknown_job"


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What a code means to others than the agent that raised it.

    Attributes:
        legacy: the code that a protocol-2 peer is sent; None is silence.
        retryable: whether another agent may succeed.
        http_status: what a coordinator's client sees if no byte was sent yet.
    """

    legacy: ErrorCode | None
    retryable: bool
    http_status: int


def _rule(legacy: ErrorCode | None, http_status: int, *, retryable: bool) -> ErrorRule:
    return ErrorRule(legacy=legacy, retryable=retryable, http_status=http_status)


_C = ErrorCode

RULES: Mapping[ErrorCode, ErrorRule] = {
    _C.OUT_OF_CAPACITY: _rule(_C.OUT_OF_CAPACITY, 429, retryable=True),
    _C.MODEL_NOT_LOADED: _rule(_C.MODEL_NOT_LOADED, 404, retryable=True),
    _C.BACKEND_UNREACHABLE: _rule(_C.BACKEND_UNREACHABLE, 502, retryable=True),
    _C.BACKEND_TIMEOUT: _rule(_C.BACKEND_TIMEOUT, 504, retryable=True),
    _C.AUTH_REJECTED_BY_BACKEND: _rule(_C.AUTH_REJECTED_BY_BACKEND, 502, retryable=True),
    _C.INTERNAL: _rule(_C.INTERNAL, 502, retryable=True),
    _C.BAD_REQUEST: _rule(_C.INTERNAL, 400, retryable=False),
    _C.UNSUPPORTED_ENDPOINT: _rule(_C.INTERNAL, 404, retryable=True),
    _C.REQUEST_TOO_LARGE: _rule(_C.INTERNAL, 413, retryable=False),
    _C.DUPLICATE_JOB: _rule(_C.INTERNAL, 409, retryable=False),
    _C.DRAINING: _rule(_C.OUT_OF_CAPACITY, 503, retryable=True),
    _C.RATE_LIMITED: _rule(_C.INTERNAL, 429, retryable=True),
    _C.BACKEND_LOADING: _rule(_C.INTERNAL, 503, retryable=True),
    _C.BACKEND_ERROR: _rule(_C.INTERNAL, 502, retryable=True),
    _C.FIRST_BYTE_TIMEOUT: _rule(_C.BACKEND_TIMEOUT, 504, retryable=True),
    _C.IDLE_TIMEOUT: _rule(_C.BACKEND_TIMEOUT, 504, retryable=True),
    _C.STREAM_TRUNCATED: _rule(_C.INTERNAL, 502, retryable=True),
    _C.STREAM_ERROR: _rule(_C.INTERNAL, 502, retryable=True),
    _C.BACKPRESSURE_TIMEOUT: _rule(_C.INTERNAL, 504, retryable=False),
    _C.CANCELLED: _rule(None, 499, retryable=False),
    _C.SESSION_LOST: _rule(_C.INTERNAL, 502, retryable=True),
    _C.AGENT_SHUTDOWN: _rule(_C.INTERNAL, 503, retryable=True),
    _C.UNKNOWN_JOB: _rule(None, 404, retryable=False),
}


def rule_of(code: str) -> ErrorRule:
    """The rule of a code as it came over the wire; one that is not known is treated as `internal`."""
    try:
        return RULES[ErrorCode(code)]
    except ValueError:
        return RULES[ErrorCode.INTERNAL]


class ProtocolError(Exception):
    """The root of what can be wrong between two peers."""


class BadFrame(ProtocolError):
    """The peer's message cannot be read as a frame.

    Attributes:
        frame_type: the frame's type, if that much could be read.
        job_id: the job it speaks of, if that much could be read: it is owed an outcome.
        field: path of the field at fault, such as `deadline_ms` or `tokens.input`; "" for the whole.
        reason: what is wrong with it; never holds a value of the peer's.
    """

    def __init__(self, reason: str, *, frame_type: str = "", field: str = "", job_id: str = "") -> None:
        super().__init__(reason)
        self.frame_type = frame_type
        self.job_id = job_id
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        place = f"{self.frame_type or 'message'}.{self.field}" if self.field else self.frame_type or "message"
        return f"{place}: {self.reason}"


class UnknownFrame(ProtocolError):
    """The frame has a type that this version does not know: to be counted and ignored."""

    def __init__(self, frame_type: str) -> None:
        super().__init__(frame_type)
        self.frame_type = frame_type

    def __str__(self) -> str:
        return f"unknown frame type {self.frame_type[:64]!r}"


class TurnError(ProtocolError):
    """A frame that the table of transitions does not allow in this state."""

    def __init__(self, sender: str, state: str, frame_type: str) -> None:
        super().__init__(sender, state, frame_type)
        self.sender = sender
        self.state = state
        self.frame_type = frame_type

    def __str__(self) -> str:
        return f"the {self.sender} may not send {self.frame_type} while {self.state}"


class LocalTurnError(TurnError):
    """We tried to send out of turn."""


class RemoteTurnError(TurnError):
    """The peer sent out of turn."""
