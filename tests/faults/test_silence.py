"""Peers that say nothing and are not gone: a black hole in the network, and processes that are frozen."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fakes.tapes import HEADERS, TapeEngine, tape
from tests.faults.parts import NOTICED_S, SLACK_S, agent_apart, agent_settings, line


async def test_both_sides_notice_a_black_hole_within_ten_seconds_and_resume(tmp_path: Path) -> None:
    """Each by itself, as neither hears of the other's end; the stream then goes on; field note 38."""
    loop = asyncio.get_running_loop()
    async with line(tmp_path, apart=False) as parts:
        gate = parts.engine.hold("dark", before=10)
        async with parts.client("dark", events=200) as client:
            await client.first(10)
            dark, began_s = parts.proxy.newest, loop.time()
            dark.black_hole()
            parts.proxy.refuse()

            async def ended(event: asyncio.Event) -> float:
                await event.wait()
                return loop.time() - began_s

            noticed_s = await asyncio.gather(ended(dark.up.ended), ended(dark.down.ended))
            gate.set()
            parts.proxy.accept()
            heard = await client.rest()

    assert max(noticed_s) < NOTICED_S + SLACK_S
    assert heard.body == tape("dark", events=200)
    assert parts.engine.counts == {"dark": 1}


async def test_a_coordinator_that_stops_reading_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    """Frozen for 3 s: the agent holds what its engine says, and the session lives on."""
    async with line(tmp_path, apart=True) as parts:
        gate = parts.engine.hold("patient", before=10)
        async with parts.client("patient", events=5000) as client:
            await client.first(10)
            parts.coordinator.freeze()
            gate.set()
            await asyncio.sleep(3)  # nobody can say that he is frozen: only time passes
            parts.coordinator.thaw()
            heard = await client.rest()

    assert heard.body == tape("patient", events=5000)
    assert len(parts.proxy.connections) == 1


async def test_a_coordinator_that_is_frozen_for_long_is_given_up_and_resumed(tmp_path: Path) -> None:
    """The agent notices within 10 s and dials again; once the coordinator wakes, the stream goes on."""
    loop = asyncio.get_running_loop()
    async with line(tmp_path, apart=True) as parts:
        gate = parts.engine.hold("frozen", before=10)
        async with parts.client("frozen", events=5000) as client:
            await client.first(10)
            parts.coordinator.freeze()
            frozen_s = loop.time()
            gate.set()
            await parts.agent.event("disconnected")
            noticed_s = loop.time() - frozen_s
            await parts.proxy.connected(2)
            parts.coordinator.thaw()
            heard = await client.rest()
        next_one = await parts.ask("next")
        await parts.is_idle()

    assert noticed_s < NOTICED_S + SLACK_S
    assert heard.body == tape("frozen", events=5000)
    assert parts.engine.counts == {"frozen": 1, "next": 1}
    assert next_one.is_whole


async def test_unanswered_jobs_of_a_frozen_agent_move_within_ten_seconds(tmp_path: Path) -> None:
    """Answered ones wait for it; once it wakes, it is back, and no client hears anything twice."""
    loop = asyncio.get_running_loop()
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        gate = parts.engine.hold("answered", before=10)
        parts.engine.hold("unanswered", before=HEADERS)
        answered = await stack.enter_async_context(parts.client("answered", events=200))
        await answered.first(10)
        unanswered = await stack.enter_async_context(parts.client("unanswered", events=200))
        abandoned = await parts.engine.is_asked("unanswered")

        other_engine = await stack.enter_async_context(TapeEngine())
        (tmp_path / "other").mkdir()
        other_settings = agent_settings(tmp_path / "other", parts.port, other_engine)
        other = await stack.enter_async_context(agent_apart(other_settings))
        await other.event("ready")
        parts.agent.freeze()
        frozen_s = loop.time()
        moved = await unanswered.rest()
        moved_s = loop.time() - frozen_s
        parts.agent.thaw()
        gate.set()
        resumed = await answered.rest()
        await abandoned.closed.wait()  # woken, it learns that nobody waits for this one any more
        await parts.is_idle()

    assert moved_s < NOTICED_S + SLACK_S
    assert moved.body == tape("unanswered", events=200)
    assert resumed.body == tape("answered", events=200)
    assert other_engine.counts == {"unanswered": 1}
