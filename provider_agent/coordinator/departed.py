"""Models that nobody offers any more, or not yet, and since when; knows no provider.

A machine that sleeps, an engine that is started anew, quiet hours: models go, and come back. Who asks for
one meanwhile is to hear that, and not that there is no such model. One taken off for good looks the same.
"""

from collections.abc import Callable, Iterable
from typing import Final

REMEMBERED_S: Final = 24 * 3600.0
"""Whoever keeps quiet hours is back by then."""

RETURN_S: Final = 30.0
"""Agents and engines that are started anew are faster."""

MOST: Final = 10_000
"""Of more names the oldest are forgotten."""


class Departed:
    """See the module; times are those of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float], *, young_s: float = 0.0) -> None:
        """For its first `young_s`, what it has not heard of may yet come: agents are on their way."""
        self._clock = clock
        self._began_s = clock()
        self._young_s = young_s
        self._left_at_s: dict[str, float] = {}  # in this order

    def leave(self, model_ids: Iterable[str]) -> None:
        """The last who had these does not offer them any more."""
        now_s = self._clock()
        for model_id in model_ids:
            self._left_at_s.pop(model_id, None)
            self._left_at_s[model_id] = now_s
        while len(self._left_at_s) > MOST:
            del self._left_at_s[next(iter(self._left_at_s))]

    def forget(self, model_ids: Iterable[str]) -> None:
        """These are on offer again."""
        for model_id in model_ids:
            self._left_at_s.pop(model_id, None)

    def back_within_s(self, model_id: str) -> float | None:
        """For how long yet it is worth waiting; 0.0 when it is just away, None when it is not known here."""
        now_s, left_at_s = self._clock(), self._left_at_s.get(model_id)
        if left_at_s is None:
            young_for_s = self._began_s + self._young_s - now_s
            return young_for_s if young_for_s > 0 else None
        gone_for_s = now_s - left_at_s
        return max(0.0, RETURN_S - gone_for_s) if gone_for_s < REMEMBERED_S else None
