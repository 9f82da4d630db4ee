"""What may go on elsewhere, what is held against an engine, and how long one is left alone."""

import pytest

from provider_agent.agent.failover import (
    MOST_BROKEN,
    alternatives,
    before_first_byte,
    counts_against,
    is_risky,
    rest_after,
)
from provider_agent.agent.routing import Route
from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendModel,
    BackendUnreachable,
    BadRequest,
    EndpointUnsupported,
    FirstByteTimeout,
    IdleTimeout,
    ModelNotFound,
    OutOfSockets,
    RateLimited,
    RequestTooLarge,
    StreamFailed,
    StreamTruncated,
)
from provider_agent.protocol.errors import ErrorCode
from tests.fakes.backends import CHAT, ScriptedBackend


def route(name: str, context_window: int | None = None) -> Route:
    model = BackendModel("m", frozenset({CHAT}), context_window=context_window)
    return Route(ScriptedBackend(name=name), model)


@pytest.mark.parametrize(
    "error",
    [
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
    ],
)
def test_a_failure_of_one_engine_leaves_the_others(error: type[BackendError]) -> None:
    """In their order (field note 25)."""
    others = (route("b"), route("c"))

    assert alternatives(route("a"), others, error("x")) == others


@pytest.mark.parametrize("error", [FirstByteTimeout, IdleTimeout, OutOfSockets, BadRequest])
def test_what_would_fail_everywhere_is_not_tried_again(error: type[BackendError]) -> None:
    """Time that is used up, a shortage of ours, a request that is wrong."""
    assert alternatives(route("a"), (route("b"),), error("x")) == ()


def test_a_request_that_is_bad_for_a_small_window_may_fit_a_larger_one() -> None:
    """Engines call a prompt that is too long a bad request, each in its own words (field note 30)."""
    small, same, large, unknown = route("a", 4096), route("b", 4096), route("c", 8192), route("d")

    assert alternatives(small, (same, large, unknown), BadRequest("too long")) == (large,)
    assert alternatives(unknown, (large,), BadRequest("too long")) == ()


@pytest.mark.parametrize(
    ("error", "is_to_blame"),
    [
        (BackendFailed("x", http_status=500), True),
        (StreamTruncated("x"), True),
        (FirstByteTimeout("x"), True),
        (IdleTimeout("x"), True),
        (AuthRejected("x", http_status=401), True),
        (StreamFailed("x"), True),
        (StreamFailed("x", http_status=500), True),
        (StreamFailed("x", http_status=400), False),
        (BadRequest("x", http_status=400), False),
        (ModelNotFound("x", http_status=404), False),
        (RateLimited("x", http_status=429), False),
        (BackendLoading("x", http_status=503), False),
        (BackendUnreachable("x"), False),
        (OutOfSockets("x"), False),
    ],
    ids=repr,
)
def test_only_what_is_the_engines_fault_is_held_against_it(error: BackendError, *, is_to_blame: bool) -> None:
    """A client cannot shut an engine off with requests that are wrong."""
    assert counts_against(error) is is_to_blame


@pytest.mark.parametrize("error", [BackendFailed, StreamTruncated, StreamFailed])
def test_a_request_that_has_broken_some_engines_is_risky(error: type[BackendError]) -> None:
    """What is not even taken breaks nothing, however often."""
    assert is_risky([error("x")] * MOST_BROKEN)
    assert not is_risky([error("x")] * (MOST_BROKEN - 1) + [BackendUnreachable("x"), AuthRejected("x")])


@pytest.mark.parametrize("status", [400, 422])
def test_an_answer_that_is_nothing_but_a_refusal_is_one(status: int) -> None:
    """As vLLM refuses a schema that it cannot use: in its own words, and nobody else is asked."""
    refusal = before_first_byte(StreamFailed("no such schema", http_status=status))

    assert isinstance(refusal, BadRequest)
    assert (refusal.message, refusal.http_status) == ("no such schema", status)
    assert alternatives(route("a"), (route("b"),), refusal) == ()


@pytest.mark.parametrize("error", [StreamFailed("x", http_status=500), StreamFailed("x"), BackendFailed("x")])
def test_any_other_failure_stays_what_it_is(error: BackendError) -> None:
    """Others may do better."""
    assert before_first_byte(error) is error


def test_an_engine_is_left_alone_for_as_long_as_it_asks() -> None:
    """In words of ours: its own were for one client."""
    rest = rest_after(RateLimited("dear Bob, slow down", retry_after_ms=2500))

    assert rest is not None
    assert (rest.code, rest.wait_s, rest.message) == (
        ErrorCode.RATE_LIMITED,
        2.5,
        "the engine limits its rate",
    )


def test_an_engine_that_does_not_say_how_long_is_left_alone_for_a_second() -> None:
    """Only one that is full or loading."""
    rest = rest_after(BackendLoading("x"))

    assert rest is not None
    assert (rest.code, rest.wait_s) == (ErrorCode.BACKEND_LOADING, 1.0)
    assert rest_after(BackendFailed("x")) is None
