"""A simulated engine and an HTTP client of it, for as long as a test runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from provider_agent.simulator import Simulator, SimulatorConfig
from tests.fakes.clocks import ManualClock

CHAT = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**CHAT, "stream": True}


@asynccontextmanager
async def simulated(**settings: Any) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    """A simulator with one model `a` unless the settings say otherwise, and a client of it."""
    config = SimulatorConfig(**{"models": ("a",), **settings})
    async with (
        asyncio.timeout(10),
        Simulator(config) as simulator,
        aiohttp.ClientSession(simulator.url) as client,
    ):
        yield simulator, client


class HandTime(ManualClock):
    """A clock that a test moves, and the sleep that goes with it."""

    def __init__(self) -> None:
        super().__init__()
        self._sleeps = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        awake = asyncio.Event()
        self.later(seconds, awake.set)
        self._sleeps.set()
        await awake.wait()

    async def somebody_sleeps(self) -> None:
        """Wait until somebody has gone to sleep since the last time."""
        await self._sleeps.wait()
        self._sleeps.clear()


async def until_slots(simulator: Simulator, busy: int, waiting: int = 0) -> None:
    """Wait, a turn of the loop at a time, until the slots look like this."""
    # Real connections: nothing in this process announces that one of them is gone.
    while (simulator.slots.busy, simulator.slots.waiting) != (busy, waiting):  # noqa: ASYNC110
        await asyncio.sleep(0)
