"""The operator's limit of tokens per minute holds over any sliding minute."""

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.budget import WINDOW_S, TokenBudget


def test_jobs_may_start_until_the_minute_is_spent() -> None:
    """The ordinary case: two jobs use the limit up, a minute later it is free again."""
    budget = TokenBudget(100)
    budget.spend(0.0, 60)
    assert budget.wait_s(1.0) == 0.0

    budget.spend(10.0, 60)
    assert budget.wait_s(10.0) == 50.0
    assert budget.wait_s(60.0) == 0.0


def test_without_a_limit_nothing_ever_waits() -> None:
    """None is no limit."""
    budget = TokenBudget(None)
    budget.spend(0.0, 10**9)

    assert budget.wait_s(0.0) == 0.0


def test_another_limit_holds_at_once_for_what_was_spent_before_it() -> None:
    """Also one that was none, and one that the minute has used up already."""
    budget = TokenBudget(None)
    budget.spend(0.0, 60)
    budget.spend(10.0, 60)
    waits_s = []
    for limit in (100, 200, 50, None):
        budget.limit_per_minute = limit
        waits_s.append(budget.wait_s(10.0))

    assert waits_s == [50.0, 0.0, 60.0, 0.0]


def test_thousands_of_jobs_a_second_are_few_entries() -> None:
    """They are counted together, and are forgotten a moment late rather than early."""
    budget = TokenBudget(10_000)
    for index in range(10_000):
        budget.spend(100.0 + index / 100_000, 1)

    assert budget.wait_s(160.09) > 0.0
    assert budget.wait_s(160.1) == 0.0


@given(
    spent=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 200)), max_size=20), limit=st.integers(1, 300)
)
def test_the_wait_that_is_told_is_the_wait_that_helps(spent: list[tuple[float, int]], limit: int) -> None:
    """Whoever comes back when told to may start, and nobody is sent away longer than a minute."""
    budget, now_s = TokenBudget(limit), 0.0
    for after_s, tokens in spent:
        now_s += after_s
        budget.spend(now_s, tokens)
    wait_s = budget.wait_s(now_s)

    assert 0.0 <= wait_s <= WINDOW_S + 1e-6
    assert budget.wait_s(now_s + wait_s + 1e-6) == 0.0
