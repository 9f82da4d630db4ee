"""Failures on order, read from flags and headers."""

import pytest

from provider_agent.simulator.failures import Failures, UnknownFailure

ORDERS = [
    ("status=429", Failures(status=429)),
    ("error-after=5", Failures(error_after=5)),
    ("cut-after=0", Failures(cut_after=0)),
    ("end-after=5", Failures(end_after=5)),
    ("silence-after=5", Failures(silence_after=5)),
    ("html", Failures(html=True)),
    ("empty", Failures(empty=True)),
    ("no-done", Failures(no_done=True)),
    ("slow-headers=2000", Failures(slow_headers=2000)),
    (" Slow-Headers = 20 , error-after=3,", Failures(slow_headers=20, error_after=3)),
    ("", Failures()),
]


@pytest.mark.parametrize(("order", "expected"), ORDERS)
def test_an_order_is_read(order: str, expected: Failures) -> None:
    """Names as in the documentation, blanks and capitals do not matter."""
    assert Failures.parse([order]) == expected


@pytest.mark.parametrize("order", ["statsu=429", "status", "status=", "status=x", "status=-1", "html=1"])
def test_an_order_that_does_not_exist_is_named(order: str) -> None:
    """A misspelt order must not pass as a healthy engine."""
    with pytest.raises(UnknownFailure, match="unknown failure") as caught:
        Failures.parse([order])

    assert caught.value.order == order
    assert "status=N" in str(caught.value)


def test_orders_of_a_request_come_on_top_of_those_of_the_flag() -> None:
    """What the request does not mention stays."""
    assert Failures(status=500, no_done=True).plus(["status=429"]) == Failures(status=429, no_done=True)


def test_the_first_break_counts() -> None:
    """Of several orders the one with the fewest tokens ends the answer."""
    assert Failures().breaks_after is None
    assert Failures(cut_after=7, error_after=3).breaks_after == 3
