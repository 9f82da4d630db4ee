"""A client's chat through coordinator and agent to an engine and back, three real processes."""

import asyncio
import json
from pathlib import Path

import aiohttp

from tests.fakes.lines import ask, chat, content, events, line

LEFT_WITHIN_S = 10.0
"""Far less than the answer of a crawling engine takes, and enough for a busy machine."""


async def test_a_chat_says_the_same_through_the_line_as_at_the_engine(tmp_path: Path) -> None:
    """Streamed and not streamed; only the answer's id and time may differ."""
    async with line(tmp_path) as parts, aiohttp.ClientSession(parts.engine_url) as engine:
        direct_status, direct = await ask(engine, chat())
        whole_status, whole = await ask(parts.client, chat())
        stream_status, streamed = await ask(parts.client, chat(stream=True))

    said = json.loads(direct)
    assert (direct_status, whole_status, stream_status) == (200, 200, 200)
    assert json.loads(whole)["choices"] == said["choices"]
    assert json.loads(whole)["usage"] == said["usage"]
    assert content(streamed) == said["choices"][0]["message"]["content"]
    assert events(streamed)[-1] == "[DONE]"
    assert all(event == "[DONE]" or event["choices"] for event in events(streamed))


async def test_tokens_arrive_as_the_engine_makes_them(tmp_path: Path) -> None:
    """The first one comes while the engine still works: nothing is collected on the way; field note 34."""
    async with (
        line(tmp_path, "--tokens-per-second", "1") as parts,
        parts.client.post("/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        first = await response.content.readline()
        async with aiohttp.ClientSession(parts.engine_url) as engine, engine.get("/health") as health:
            busy = (await health.json())["slots"]["busy"]

    assert b"assistant" in first
    assert busy == 1


async def test_a_client_that_leaves_frees_the_engine(tmp_path: Path) -> None:
    """Closing the connection is the cancel, all the way down; field note 70."""
    async with line(tmp_path, "--tokens-per-second", "1") as parts:
        response = await parts.client.post("/v1/chat/completions", json=chat(stream=True))
        await response.content.readline()
        response.close()
        async with aiohttp.ClientSession(parts.engine_url) as engine:
            await until_idle(engine)


async def until_idle(engine: aiohttp.ClientSession) -> None:
    """Ask the engine until no slot is busy; each question is a round trip, so this is no busy loop."""
    async with asyncio.timeout(LEFT_WITHIN_S):
        while True:
            async with engine.get("/health") as health:
                if (await health.json())["slots"]["busy"] == 0:
                    return
