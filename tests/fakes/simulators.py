"""A simulated engine and an HTTP client of it, for as long as a test runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from provider_agent.simulator import Simulator, SimulatorConfig

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
