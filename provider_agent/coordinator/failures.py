"""What a failure means for the client that waits and for the next attempt; pure, knows no fleet."""

from enum import Enum

from provider_agent.coordinator.answer import Failed
from provider_agent.protocol.errors import ErrorCode, rule_of
from provider_agent.protocol.frames import MAX_MESSAGE_TEXT, JobError

RETRY_AFTER_S = 5.0
"""What a client is told that was turned away for want of room; a guess, as nobody knows."""

_BAD_REQUEST_STATUSES = range(400, 500)


class Blame(Enum):
    """What a failed attempt says about the provider."""

    NO_ROOM = "no room"
    """It is fine, but full: the same job may be sent to it again."""
    LEAVING = "leaving"
    """It takes no more jobs, but others of its kind, or itself, may come back."""
    GONE = "gone"
    """Its session ended; it may come back in a new one."""
    ENGINE_AWAY = "engine away"
    """It does not reach its engine, and offers the model again once it does."""
    AT_FAULT = "at fault"
    """It cannot do this job: others may."""


_C = ErrorCode
_BLAMES = {
    _C.OUT_OF_CAPACITY.value: Blame.NO_ROOM,
    # We number attempts, so this is an earlier one that has not quite ended there yet.
    _C.DUPLICATE_JOB.value: Blame.NO_ROOM,
    _C.DRAINING.value: Blame.LEAVING,
    _C.AGENT_SHUTDOWN.value: Blame.LEAVING,
    _C.SESSION_LOST.value: Blame.GONE,
    _C.BACKEND_UNREACHABLE.value: Blame.ENGINE_AWAY,
}
_NOT_TRIED = frozenset({_C.OUT_OF_CAPACITY.value, _C.DUPLICATE_JOB.value, _C.DRAINING.value})
_ANSWERS_TO_A_CANCEL = frozenset({_C.CANCELLED.value, _C.UNKNOWN_JOB.value})
_MAY_PASS = frozenset({429, 503})


def blame_of(code: str) -> Blame:
    return _BLAMES.get(code, Blame.AT_FAULT)


def may_pass(failure: Failed | None) -> bool:
    """Whether it is worth waiting for the agent itself: it, or its engine, may just be starting anew."""
    return failure is not None and blame_of(failure.code) in (Blame.GONE, Blame.ENGINE_AWAY)


def was_tried(code: str) -> bool:
    """Whether the attempt counts as one: a provider that never began has not failed."""
    return code not in _NOT_TRIED


def failed(code: ErrorCode, message: str, *, retryable: bool | None = None) -> Failed:
    """A failure in our own words."""
    rule = rule_of(code)
    return Failed(
        code=code.value,
        message=message,
        retryable=rule.retryable if retryable is None else retryable,
        http_status=rule.http_status,
        retry_after_s=RETRY_AFTER_S if rule.http_status in _MAY_PASS else None,
    )


def failure_of(frame: JobError) -> Failed:
    """A failure as an agent reported it for a job that we still want.

    1. What only answers a cancel is the agent's own defect here, as is a code that we do not know.
    2. That we called a job twice is nothing that another agent, or a later attempt, would say.
    3. The status of the engine is kept where the request itself was bad.
    """
    code, message = frame.error_code, frame.message[:MAX_MESSAGE_TEXT]
    if code in _ANSWERS_TO_A_CANCEL:  # 1
        return failed(ErrorCode.INTERNAL, "the agent gave this request up")
    rule = rule_of(code)
    retryable = rule.retryable if frame.retryable is None else frame.retryable
    status = rule.http_status
    if code == ErrorCode.BAD_REQUEST.value and (frame.http_status or 0) in _BAD_REQUEST_STATUSES:  # 3
        status = frame.http_status or status
    retry_after_s = None if frame.retry_after_ms is None else frame.retry_after_ms / 1000
    if retry_after_s is None and status in _MAY_PASS:
        retry_after_s = RETRY_AFTER_S
    return Failed(
        code=code,
        message=message,
        retryable=retryable or blame_of(code) is Blame.NO_ROOM,  # 2
        http_status=status,
        retry_after_s=retry_after_s,
    )


STOPPING = failed(ErrorCode.DRAINING, "the coordinator is stopping")
CLIENT_LEFT = failed(ErrorCode.CANCELLED, "the client left")
CLIENT_TOO_SLOW = failed(ErrorCode.BACKPRESSURE_TIMEOUT, "the client reads too slowly")
QUEUE_FULL = failed(ErrorCode.OUT_OF_CAPACITY, "too many requests wait already")
WAITED_TOO_LONG = failed(ErrorCode.OUT_OF_CAPACITY, "no agent had a free slot in time")
SESSION_LOST = failed(ErrorCode.SESSION_LOST, "the connection to the agent was lost")
UNREADABLE = failed(ErrorCode.INTERNAL, "the agent's answer could not be read")
TORN = failed(ErrorCode.STREAM_TRUNCATED, "a part of the agent's answer is missing")
OVERRUN = failed(ErrorCode.INTERNAL, "the agent sent more than it was asked to")
