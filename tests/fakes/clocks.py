"""A clock that a test moves by hand."""

from collections.abc import Callable


class ManualClock:
    """Stands still until it is told otherwise."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now_s

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call this once the clock has moved so far."""
        self._timers.append((self.now_s + delay_s, call))

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        due = [call for due_s, call in self._timers if due_s <= self.now_s]
        self._timers = [timer for timer in self._timers if timer[0] > self.now_s]
        for call in due:
            call()
