"""Warmth through the whole agent: loaded by it, and told to the coordinator."""

import asyncio
from pathlib import Path

from provider_agent.protocol.frames import Capabilities
from tests.fakes.engine import Act, sse
from tests.fakes.engine_pages import FamilyEngine, OllamaThatLoads, ollama
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Process, agent, with_models

SILENT = sse(Act.SILENCE)


async def test_a_model_that_is_to_be_warm_is_loaded_and_told_to_be_warm_at_once(tmp_path: Path) -> None:
    """Field note 72: not only at the next look, half a minute later."""
    warmth: list[bool | None] = []
    async with OllamaThatLoads() as engine:
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            offered = await with_models(peer)
            warmth.append(offered.models[0].warm)
            while offered.models[0].warm is not True:
                offered = await peer.until(Capabilities)
                warmth.append(offered.models[0].warm)
            process.stop.set()

        async with agent(tmp_path, play, engine, BACKENDS__0__KIND="ollama", MODELS__WARM="ti*") as process:
            pass

    assert warmth in ([False, True], [True])  # it may be loaded before there is a session
    assert [post.path for post in engine.posts if post.path != "/api/show"] == ["/api/generate"]
    assert "job" not in process.names
    assert process.names.count("models") == 1


async def test_a_cold_model_is_told_to_be_cold_and_left_so(tmp_path: Path) -> None:
    """Nobody wants it warm: it is loaded when a job comes."""
    offers: list[Capabilities] = []
    async with FamilyEngine(ollama(loaded=False)) as engine:
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            offers.append(await with_models(peer))
            process.stop.set()

        async with agent(tmp_path, play, engine, BACKENDS__0__KIND="ollama") as process:
            pass

    assert [offer.warm for offer in offers[0].models] == [False]
    assert {post.path for post in engine.posts} == {"/api/show"}


async def test_an_agent_that_leaves_waits_for_no_load(tmp_path: Path) -> None:
    """The engine is told to stop by the end of its connection."""
    async with FamilyEngine(ollama(loaded=False)) as engine:
        engine.pages["/api/generate"] = SILENT
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            while not any(post.path == "/api/generate" for post in engine.posts):
                await engine.news()
            process.stop.set()

        async with agent(tmp_path, play, engine, BACKENDS__0__KIND="ollama", MODELS__WARM="tiny") as process:
            pass
        async with asyncio.timeout(5):
            await asyncio.gather(*(each.closed.wait() for each in engine.connections))

    assert process.exit_code == 0
