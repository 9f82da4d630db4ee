"""What an engine's failure means: for the job, which may try elsewhere, and for its route; pure."""

from collections.abc import Iterable
from typing import Final

from provider_agent.agent.circuit import Block
from provider_agent.agent.routing import Route
from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendUnreachable,
    BadRequest,
    EndpointUnsupported,
    FirstByteTimeout,
    IdleTimeout,
    ModelNotFound,
    RateLimited,
    RequestTooLarge,
    StreamFailed,
    StreamTruncated,
)

_ELSEWHERE: Final = (
    BackendUnreachable,
    AuthRejected,
    ModelNotFound,
    EndpointUnsupported,
    RequestTooLarge,
    RateLimited,
    BackendLoading,
    BackendFailed,
    StreamTruncated,
    StreamFailed,
)
"""After these another engine may answer, as long as no byte has come from the first one.

A first byte that did not come in time has used up the client's time: whoever waits longer asks again. A
connection that this machine could not begin will not begin to another engine, either.
"""

_AGAINST_THE_ENGINE: Final = (
    AuthRejected,
    BackendFailed,
    FirstByteTimeout,
    IdleTimeout,
    StreamTruncated,
    StreamFailed,
)
"""These open a circuit. Not one that is there because of the client's request, or of a full engine."""

_BROKE_ON_IT: Final = (BackendFailed, StreamTruncated, StreamFailed)

MOST_BROKEN: Final = 3
"""So many engines may break at one request: it may be what they die of, and one client must not kill all."""

_CLIENTS_FAULT: Final = range(400, 500)
_REFUSED: Final = frozenset({400, 422})

_REST_S: Final = 1.0
"""For an engine that does not say how long."""

_WHY_IT_RESTS: Final = {
    RateLimited: "the engine limits its rate",
    BackendLoading: "the engine is loading the model or busy",
}
"""In words of ours: those of the engine were meant for one client."""


class OthersAreFull(Exception):
    """An engine failed before the first byte, and those that could stand in have no slot free yet."""


def before_first_byte(error: BackendError) -> BackendError:
    """An answer that is nothing but an error is a refusal, if that says so.

    vLLM reads a schema only when the status is out: `"code": 400` is the first event of the stream.
    """
    if isinstance(error, StreamFailed) and error.http_status in _REFUSED:
        return BadRequest(error.message, http_status=error.http_status)
    return error


def alternatives(failed: Route, others: tuple[Route, ...], error: BackendError) -> tuple[Route, ...]:
    """Those of the others that may do better than the route that failed with this error.

    A request that an engine calls bad may just be too long for it: only a larger window may do better.
    """
    if isinstance(error, _ELSEWHERE):
        return others
    window = failed.model.context_window
    if not isinstance(error, BadRequest) or window is None:
        return ()
    return tuple(route for route in others if (route.model.context_window or 0) > window)


def is_risky(failures: Iterable[BackendError]) -> bool:
    """Whether a request has broken so many engines that no other one is risked."""
    return sum(isinstance(error, _BROKE_ON_IT) for error in failures) >= MOST_BROKEN


def counts_against(error: BackendError) -> bool:
    """Whether the engine is to blame; an error in its answer may name a fault of the client's."""
    is_clients = isinstance(error, StreamFailed) and error.http_status in _CLIENTS_FAULT
    return isinstance(error, _AGAINST_THE_ENGINE) and not is_clients


def rest_after(error: BackendError) -> Block | None:
    """For how long the engine wants to be left alone."""
    why = _WHY_IT_RESTS.get(type(error))
    if why is None:
        return None
    wait_s = _REST_S if error.retry_after_ms is None else error.retry_after_ms / 1000
    return Block(error.code, why, wait_s)
