"""When an engine has been silent for too long; knows no engine and no socket."""

import asyncio
from collections.abc import Callable
from typing import Final

_MOMENT_S: Final = 0.001
"""A busy or suspended process may see its timers before the bytes that came meanwhile: it looks twice."""


class Silence:
    """One timer that looks back, for all answers of a connection. Time in which it is paused does not count.

    Attributes:
        since_s: when the engine was heard last, by the loop's clock: to be set at every sign of life.
    """

    def __init__(self, on_silent: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_silent = on_silent
        self._limit_s: float | None = None
        self._paused_at_s: float | None = None
        self._has_looked = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at_s = 0.0
        self.since_s = 0.0

    def begin(self, limit_s: float) -> None:
        """An answer is expected from now on, and so much silence is allowed."""
        self.since_s = self._loop.time()
        self._paused_at_s = None
        self.limit(limit_s)

    def limit(self, limit_s: float) -> None:
        """From now on so much silence is allowed."""
        self._limit_s = limit_s
        due_s = self.since_s + limit_s
        if self._timer is None or due_s < self._looks_at_s:
            self._look_at(due_s)

    def end(self) -> None:
        """Nothing is expected any more. A timer that runs will see it."""
        self._limit_s = None

    def pause(self) -> None:
        if self._paused_at_s is None:
            self._paused_at_s = self._loop.time()

    def resume(self) -> None:
        if self._paused_at_s is not None:
            silent_s = max(0.0, self._paused_at_s - self.since_s)
            self.since_s = self._loop.time() - silent_s
            self._paused_at_s = None

    def stop(self) -> None:
        """For good."""
        self.end()
        self._on_silent = _say_nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at_s = when_s
        self._timer = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._limit_s is None:
            return
        now_s = self._loop.time()
        since_s = now_s if self._paused_at_s is not None else self.since_s
        due_s = since_s + self._limit_s
        if due_s <= now_s and self._has_looked:
            self._has_looked = False
            self.end()
            self._on_silent()
            return
        self._has_looked = due_s <= now_s
        self._look_at(max(due_s, now_s + _MOMENT_S))


def _say_nothing() -> None:
    """The connection is over."""
