"""An event loop whose clock jumps to the next deadline when nothing is left to do; knows no program.

An hour of waiting takes no time, and the same callbacks run in the same order on every machine.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stalled(Exception):
    """Everybody waits, and nothing will ever happen."""


class _Nothing(selectors.DefaultSelector):
    """Never waits for a file: it tells the loop's clock how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.advance_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled
        self.advance_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only while everybody waits."""

    def __init__(self) -> None:
        self._nothing = _Nothing()
        super().__init__(self._nothing)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._nothing.advance_s


def run_virtually(main: Coroutine[Any, Any, T], loop: VirtualLoop | None = None) -> T:
    """Run to the end, and leave no task behind; raises Stalled when the end cannot come."""
    loop = loop or VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
