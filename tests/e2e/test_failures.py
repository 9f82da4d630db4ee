"""What a client sees when an engine fails in each of its ways, and that the agent lives on.

One coordinator and one agent as processes, and a simulated engine for each kind of failure.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from provider_agent.simulator import Failures, Pace, Simulator, SimulatorConfig
from tests.fakes.lines import BRIEFLY, LIMIT_S, agent, ask, chat, coordinator, events

AT_ONCE = Pace(0.0, 0.0)
IN_STEPS = Pace(0.0, 10.0)
"""Slow enough that the client has some tokens before the failure: else it gets a status, and no event."""

BEFORE_THE_FIRST_BYTE = {
    "status=401": (502, "auth_rejected_by_backend"),
    "status=429": (429, "rate_limited"),
    "status=500": (502, "backend_error"),
    "status=503": (503, "backend_loading"),
    "html": (502, "backend_error"),
    "empty": (502, "backend_error"),
}
"""What the engine does -> what the client of a streamed or whole answer gets instead of a 200."""

IN_THE_STREAM = {
    "error-after=5": "stream_error",
    "cut-after=5": "stream_truncated",
    "end-after=5": "stream_truncated",
}
"""What the engine does -> the code of the error event that ends the stream."""


def simulator(order: str) -> Simulator:
    """An engine whose model is called as its failure."""
    failures = Failures.parse([order])
    pace = IN_STEPS if order in IN_THE_STREAM else AT_ONCE
    return Simulator(SimulatorConfig(models=(order or "healthy",), pace=pace, failures=failures))


async def test_a_failing_engine_never_looks_like_a_whole_answer(tmp_path: Path) -> None:
    """The right status before the first byte, a typed error event and no end mark after it; field note 28."""
    orders = [*BEFORE_THE_FIRST_BYTE, *IN_THE_STREAM, ""]
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(simulator(order)) for order in orders]
        front = await stack.enter_async_context(coordinator(environ=BRIEFLY))
        listening = await front.event("listening")
        urls = [engine.url for engine in engines]
        worker = await stack.enter_async_context(agent(tmp_path, listening["agents_url"], *urls))
        await worker.event("ready")
        client = await stack.enter_async_context(aiohttp.ClientSession(listening["url"]))

        refused = {}
        for order in BEFORE_THE_FIRST_BYTE:
            for stream in (False, True):
                status, body = await ask(client, chat(order, stream=stream))
                refused[order, stream] = (status, json.loads(body)["error"]["code"])
        broken = {order: events((await ask(client, chat(order, stream=True)))[1]) for order in IN_THE_STREAM}
        unknown, _ = await ask(client, chat("nobody's"))
        healthy, _ = await ask(client, chat("healthy"))

    expected = {(o, s): seen for o, seen in BEFORE_THE_FIRST_BYTE.items() for s in (False, True)}
    assert refused == expected
    assert {order: seen[-1]["error"]["code"] for order, seen in broken.items()} == IN_THE_STREAM
    assert all(len(seen) == 1 + 5 + 1 for seen in broken.values())
    assert unknown in (404, 503)  # a coordinator that has just been started does not know yet
    assert healthy == 200
