"""How many tokens the last minute has used; pure, and told the time."""

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0

GRAIN_S: Final = 0.125
"""Jobs that end within so short a time are one entry: a minute of a busy agent is not a long list."""


class TokenBudget:
    """A sliding minute of tokens, input and output together; None as the limit is no limit.

    What was spent is known without a limit, too: the operator may set one at any time, or another one.

    Tokens count when their job ends, since only then the engine has counted them: the limit may be
    overshot by what runs at that moment, and is made up for by the wait that follows.
    """

    def __init__(self, limit_per_minute: int | None) -> None:
        self.limit_per_minute = limit_per_minute
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._entry_began_s = 0.0

    def spend(self, now_s: float, tokens: int) -> None:
        if not tokens:
            return
        self._forget(now_s)
        self._sum += tokens
        if self._spent and now_s < self._entry_began_s + GRAIN_S:
            tokens += self._spent.pop()[1]
        else:
            self._entry_began_s = now_s
        self._spent.append((now_s, tokens))

    def wait_s(self, now_s: float) -> float:
        """How long until a job may start; 0 if it may start now."""
        limit = self.limit_per_minute
        if limit is None:
            return 0.0
        self._forget(now_s)
        if self._sum < limit:
            return 0.0
        left = self._sum
        for spent_s, tokens in self._spent:
            left -= tokens
            if left < limit:
                return spent_s + WINDOW_S - now_s
        return WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._spent and self._spent[0][0] <= now_s - WINDOW_S:
            self._sum -= self._spent.popleft()[1]
