"""What a pause means to a coordinator, from its first minute to its last, through the whole agent."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from provider_agent.protocol.frames import Capabilities, Heartbeat
from tests.fakes.clocks import ManualClock
from tests.fakes.engine import FakeEngine, chat_chunk, sse, whole_chat
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Process, agent, with_models

DAY = "07:00-22:00"
A_MOMENT_S = 0.1
"""Before an edge: so often the agent looks then, for as long as the clock of the test stands still."""


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-05-04 {text}").replace(tzinfo=UTC).timestamp()


async def offer(peer: ScriptedCoordinator, *, active_jobs: int = 0) -> tuple[str, ...]:
    """The next one; the heartbeat which follows it at once says the same."""
    models = tuple(model.model_id for model in (await peer.until(Capabilities)).models)
    beat = await peer.until(Heartbeat)
    assert bool(beat.free_slots) is bool(models)
    assert (beat.draining, beat.active_jobs) == (False, active_jobs)
    return models


async def test_a_pause_withdraws_the_offer_finishes_what_runs_and_ends_at_the_minute(tmp_path: Path) -> None:
    """Jobs that come all the same are told when to come back, unknown models for good (field note 9)."""
    clock = ManualClock(at("22:00") - A_MOMENT_S)
    gate = asyncio.Event()
    told: list[tuple[str, int | None]] = []
    offers: list[tuple[str, ...]] = []
    async with FakeEngine() as engine:
        engine.will_answer(
            sse(chat_chunk("Hel"), gate, chat_chunk("lo", "stop"), b"data: [DONE]\n\n"), whole_chat()
        )
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await peer.dispatch("runs", "tiny", {"messages": [], "stream": True})
            while not peer.answers.get("runs") or not peer.answers["runs"].chunks:
                await peer.hear()
            clock.now_s = at("22:00")
            offers.append(await offer(peer, active_jobs=1))
            for model in ("tiny", "ghost"):
                await peer.dispatch(model, model)
                error = (await peer.answer(model)).error
                told.append((error.error_code, error.retry_after_ms))
            gate.set()
            assert b"lo" in (await peer.answer("runs")).data
            process.stop.set()

        async with agent(
            tmp_path, play, engine, wall_clock=clock, SCHEDULE__ACTIVE=DAY, SCHEDULE__TIMEZONE="UTC"
        ) as process:
            pass

    assert offers == [()]
    assert told == [("out_of_capacity", 3_600_000), ("model_not_loaded", None)]
    assert process.events[process.names.index("paused")][1] == {
        "reason": "outside active hours, until 07:00 (UTC)"
    }
    assert process.exit_code == 0


async def test_an_agent_that_is_started_at_rest_stays_connected_and_serves_when_its_hours_come(
    tmp_path: Path,
) -> None:
    """It offers nothing first, though its engine is there, and all of it at 07:00."""
    clock = ManualClock(at("07:00") - A_MOMENT_S)
    offers: list[tuple[str, ...]] = []
    async with FakeEngine() as engine:
        engine.will_answer(whole_chat())
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            offers.append(tuple(model.model_id for model in (await peer.welcome()).models))
            await refused(peer)
            clock.now_s = at("07:00")
            offers.append(await offer(peer))
            await peer.dispatch("j", "tiny", {"messages": [], "stream": True})
            assert b"Hel" in (await peer.answer("j")).data
            process.stop.set()

        async with agent(
            tmp_path, play, engine, wall_clock=clock, SCHEDULE__ACTIVE=DAY, SCHEDULE__TIMEZONE="UTC"
        ) as process:
            pass

    assert offers == [(), ("tiny",)]
    assert [name for name in process.names if name in ("paused", "resumed")] == ["paused", "resumed"]


async def refused(peer: ScriptedCoordinator) -> None:
    """Ask until the engine is known: from then on the reason is the pause."""
    code, number = "model_not_loaded", 0
    while code == "model_not_loaded":
        number += 1
        await peer.dispatch(f"early-{number}", "tiny")
        code = (await peer.answer(f"early-{number}")).error.error_code
    assert code == "out_of_capacity"
