"""How many tokens the last minute has used; pure, and told the time."""

from collections import deque

WINDOW_S = 60.0


class TokenBudget:
    """A sliding minute of tokens, input and output together; None as the limit is no limit.

    Tokens count when their job ends, since only then the engine has counted them: the limit may be
    overshot by what runs at that moment, and is made up for by the wait that follows.
    """

    def __init__(self, limit_per_minute: int | None) -> None:
        self._limit = limit_per_minute
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def spend(self, now_s: float, tokens: int) -> None:
        if self._limit is not None and tokens:
            self._forget(now_s)
            self._spent.append((now_s, tokens))
            self._sum += tokens

    def wait_s(self, now_s: float) -> float:
        """How long until a job may start; 0 if it may start now."""
        if self._limit is None:
            return 0.0
        self._forget(now_s)
        if self._sum < self._limit:
            return 0.0
        left = self._sum
        for spent_s, tokens in self._spent:
            left -= tokens
            if left < self._limit:
                return spent_s + WINDOW_S - now_s
        return WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._spent and self._spent[0][0] <= now_s - WINDOW_S:
            self._sum -= self._spent.popleft()[1]
