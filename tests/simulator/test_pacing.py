"""Due times of tokens, on a clock that only moves when somebody sleeps."""

import pytest

from provider_agent.simulator.pacing import BURST_TOKENS, Pace, paced


class LazyClock:
    """Time that passes by sleeping, each sleep longer than asked for by `late_s`."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self.sleeps: list[float] = []
        self._late_s = late_s

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.sleeps.append(duration_s)
        self.now_s += duration_s + self._late_s


async def schedule(count: int, pace: Pace, clock: LazyClock) -> list[tuple[float, int]]:
    """(seconds from the start, tokens so far) of each slice."""
    start_s = clock()
    return [
        (round(clock() - start_s, 6), part.stop)
        async for part in paced(count, pace, clock=clock, sleep=clock.sleep)
    ]


async def test_tokens_come_one_by_one_at_their_due_times() -> None:
    """The first after `first_token_s`, the others in even steps."""
    seen = await schedule(4, Pace(0.5, 10), LazyClock())

    assert seen == [(0.5, 1), (0.6, 2), (0.7, 3), (0.8, 4)]


async def test_lateness_never_adds_up() -> None:
    """Every sleep is 30 ms too long, and still the last token is at most 30 ms late."""
    seen = await schedule(1001, Pace(0.0, 100), LazyClock(late_s=0.03))
    last_at_s, total = seen[-1]

    assert total == 1001
    assert last_at_s == pytest.approx(10.0, abs=0.0301)


async def test_a_late_comer_finds_all_that_is_due() -> None:
    """Tokens that are overdue go together, none is lost, none comes twice."""
    clock = LazyClock(late_s=0.01)
    parts = [part async for part in paced(100, Pace(0.0, 1000), clock=clock, sleep=clock.sleep)]

    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(100))
    assert len(parts) < 15


async def test_without_a_limit_all_goes_at_once_but_others_get_their_turn() -> None:
    """Bursts with a zero sleep between them."""
    clock = LazyClock()
    seen = await schedule(BURST_TOKENS * 3, Pace(0.0, 0), clock)

    assert [total for _, total in seen] == [BURST_TOKENS, BURST_TOKENS * 2, BURST_TOKENS * 3]
    assert clock.sleeps == [0.0, 0.0]


async def test_without_a_limit_the_first_token_still_has_its_latency() -> None:
    """Prefill and speed are two things."""
    assert await schedule(2, Pace(0.25, 0), LazyClock()) == [(0.25, 2)]


async def test_no_tokens_take_no_time() -> None:
    """A stop string may leave nothing."""
    assert await schedule(0, Pace(5.0, 1), LazyClock()) == []
