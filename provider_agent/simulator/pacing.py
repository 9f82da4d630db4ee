"""When each token is due; knows no text and no connection.

Tokens have absolute due times, so lateness never adds up: whoever comes late finds more
tokens due and sends them together.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

BURST_TOKENS = 16
"""How many tokens leave together when there is no speed limit, before others get their turn."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of one answer.

    Attributes:
        first_token_s: from the start of work to the first token.
        tokens_per_s: after that; 0 for as fast as possible.
    """

    first_token_s: float = 0.0
    tokens_per_s: float = 0.0

    def due_s(self, index: int) -> float:
        """When the token with this index (from 0) is due, from the start of work."""
        return self.first_token_s + (index / self.tokens_per_s if self.tokens_per_s > 0 else 0.0)

    def ready(self, elapsed_s: float) -> int | None:
        """How many tokens are due by then; None for any number."""
        since_first_s = elapsed_s - self.first_token_s
        if since_first_s < 0:
            return 0
        # The tiny addition keeps a due time that was rounded down from costing another sleep.
        return int(since_first_s * self.tokens_per_s + 1e-6) + 1 if self.tokens_per_s > 0 else None


async def paced(count: int, pace: Pace, *, clock: Clock, sleep: Sleep) -> AsyncIterator[slice]:
    """Yield slices of `range(count)`, in order and without a gap, as they are due."""
    start_s = clock()
    sent = 0
    while sent < count:
        now_s = clock() - start_s
        due = pace.ready(now_s)
        ready = min(count, sent + BURST_TOKENS if due is None else due)
        if ready > sent:
            yield slice(sent, ready)
            sent = ready
        if sent < count:
            await sleep(max(0.0, pace.due_s(sent) - (clock() - start_s)))
