"""When an engine has been silent for too long; knows no engine and no socket."""

import asyncio
from collections.abc import Callable
from typing import Final

_MOMENT_S: Final = 0.001
"""A busy or suspended process may see its timers before the bytes that came meanwhile: it looks twice."""


class Silence:
    """One timer that looks back, not one for each chunk. Time in which it is paused does not count.

    Attributes:
        since_s: when the engine was heard last, by the loop's clock: to be set at every sign of life.
    """

    def __init__(self, limit_s: float, on_silent: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._on_silent = on_silent
        self._paused_at_s: float | None = None
        self._has_looked = False
        self.since_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(limit_s, self._look)

    def limit(self, limit_s: float) -> None:
        """From now on so much silence is allowed."""
        self.stop()
        self._limit_s = limit_s
        self._timer = self._loop.call_later(limit_s, self._look)

    def pause(self) -> None:
        if self._paused_at_s is None:
            self._paused_at_s = self._loop.time()

    def resume(self) -> None:
        if self._paused_at_s is not None:
            silent_s = max(0.0, self._paused_at_s - self.since_s)
            self.since_s = self._loop.time() - silent_s
            self._paused_at_s = None

    def stop(self) -> None:
        """Say nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now_s = self._loop.time()
        since_s = now_s if self._paused_at_s is not None else self.since_s
        left_s = since_s + self._limit_s - now_s
        if left_s > 0:
            self._has_looked = False
        elif self._has_looked:
            self._timer = None
            self._on_silent()
            return
        else:
            self._has_looked = True
        self._timer = self._loop.call_later(max(left_s, _MOMENT_S), self._look)
