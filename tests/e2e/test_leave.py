"""Processes that stop, die and come back."""

import asyncio
from pathlib import Path

from tests.fakes.lines import BRIEFLY, LIMIT_S, agent, ask, chat, coordinator, engine, events, line

SLOW = ("--tokens-per-second", "40")
CRAWLING = ("--tokens-per-second", "1")


async def test_sigterm_lets_a_running_answer_end(tmp_path: Path) -> None:
    """The agent drains: the stream is whole, and the exit status is that of success; field note 44."""
    async with line(tmp_path, *SLOW) as parts:
        body = chat(stream=True, max_tokens=40, ignore_eos=True)
        async with parts.client.post("/v1/chat/completions", json=body) as response:
            await response.content.readline()
            parts.agent.stop()
            draining = await parts.agent.event("draining")
            rest = await response.read()
        ended = await parts.agent.end()

    assert draining["active_jobs"] == 1
    assert events(rest)[-1] == "[DONE]"
    assert ended.code == 0


async def test_a_second_signal_ends_the_agent_at_once(tmp_path: Path) -> None:
    """Whoever cannot wait need not kill it."""
    async with (
        line(tmp_path, *CRAWLING) as parts,
        parts.client.post("/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        await response.content.readline()
        parts.agent.stop()
        await parts.agent.event("draining")
        parts.agent.stop()
        ended = await parts.agent.end()
        rest = await response.read()

    assert ended.code == 128 + 15
    assert "[DONE]" not in events(rest)
    assert "error" in events(rest)[-1]


async def test_an_engine_that_dies_in_an_answer_ends_it_with_an_error(tmp_path: Path) -> None:
    """A truncated answer never looks complete; the next client learns that nobody serves; field note 28."""
    async with line(tmp_path, *CRAWLING, environ=BRIEFLY) as parts:
        async with parts.client.post("/v1/chat/completions", json=chat(stream=True)) as response:
            await response.content.readline()
            parts.engine.process.kill()
            rest = await response.read()
        status, _ = await ask(parts.client, chat())

    assert events(rest)[-1]["error"]["code"] == "stream_truncated"
    assert status in (502, 503)


async def test_the_agent_comes_back_after_the_coordinator_was_killed(tmp_path: Path) -> None:
    """By itself, on the same address, and serves again; field note 67."""
    async with line(tmp_path) as parts:
        parts.coordinator.process.kill()
        await parts.coordinator.process.wait()
        await parts.agent.event("disconnected")
        async with coordinator(port=parts.port) as successor:
            await parts.agent.event("connected")
            models = (await successor.event("capabilities_taken"))["models"]
            status, _ = await ask(parts.client, chat())

    assert models == ["tiny"]
    assert status == 200


async def test_the_coordinator_lets_running_answers_end_when_it_is_stopped(tmp_path: Path) -> None:
    """A deploy drops nobody's stream; field note 68."""
    async with line(tmp_path, *SLOW) as parts:
        body = chat(stream=True, max_tokens=20, ignore_eos=True)
        async with parts.client.post("/v1/chat/completions", json=body) as response:
            await response.content.readline()
            parts.coordinator.stop()
            rest = await response.read()
        ended = await parts.coordinator.end()

    assert events(rest)[-1] == "[DONE]"
    assert ended.code == 0


async def test_an_engine_that_comes_late_is_offered_as_soon_as_it_answers(tmp_path: Path) -> None:
    """The agent waits for it without being started again; field note 26."""
    async with asyncio.timeout(LIMIT_S), engine() as early, coordinator() as front:
        port = (await early.event("listening"))["port"]
        early.stop()
        await early.end()
        agents_url = (await front.event("listening"))["agents_url"]
        often = {"PROVIDER_AGENT__DISCOVERY__INTERVAL_S": "1"}
        async with agent(tmp_path, agents_url, f"http://127.0.0.1:{port}", **often) as worker:
            await worker.event("connected")
            async with engine("--port", str(port)):
                ready = await worker.event("ready")

    assert ready["models"] == ["tiny"]
