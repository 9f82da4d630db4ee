"""What becomes of an engine that fails, through the whole agent."""

from pathlib import Path

from provider_agent.agent.circuit import FAILURES
from tests.fakes.engine import FakeEngine, json_answer
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Process, agent, with_models

ODD = {"messages": [{"role": "user", "content": "odd"}], "stream": True}


async def test_the_odd_requests_of_one_client_take_an_engine_from_nobody(tmp_path: Path) -> None:
    """After five failures the agent asks it a question of its own, and the next job is served."""
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(*[json_answer({"error": {"message": "odd"}}, 500)] * FAILURES)
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            for number in range(FAILURES):
                await peer.dispatch(f"odd {number}", "tiny", ODD)
                codes.append((await peer.answer(f"odd {number}")).error.error_code)
            await engine.has_received(FAILURES + 1)
            served, number = "", 0
            while served != "JobDone":
                number += 1
                await peer.dispatch(f"j{number}", "tiny", ODD)
                served = type((await peer.answer(f"j{number}")).outcome).__name__
            process.stop.set()

        async with agent(tmp_path, play, engine) as process:
            pass

    assert codes == ["backend_error"] * FAILURES
    asked = [post.json()["messages"] == ODD["messages"] for post in engine.posts]
    assert asked == [True] * FAILURES + [False, True]
