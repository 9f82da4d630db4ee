"""Wakes whoever waits for the next deadline; knows neither the deadlines nor whose they are."""

import asyncio
import contextlib
import math


class Alarm:
    """One waiter, who is disturbed only for a deadline that is earlier than the one it waits for."""

    def __init__(self) -> None:
        self._due_s = math.inf
        self._earlier = asyncio.Event()

    def set(self, due_s: float) -> None:
        """There is a deadline at this time."""
        if due_s < self._due_s:
            self._due_s = due_s
            self._earlier.set()

    @property
    def is_set(self) -> bool:
        """Whether the waiter is to be disturbed, and was not yet."""
        return self._earlier.is_set()

    def reset(self, due_s: float | None) -> None:
        """The next deadline is this one, whatever was set before; None is none."""
        self._due_s = math.inf if due_s is None else due_s
        self._earlier.clear()

    async def wait(self, for_s: float | None) -> None:
        """Until this time has passed, or an earlier deadline is set; None waits for that alone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await self._earlier.wait()
