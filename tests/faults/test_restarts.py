"""Processes that die, are stopped or replaced while answers are under way: one clean end for each client."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fakes.clients import Heard, RawClient
from tests.fakes.programs import Program
from tests.fakes.tapes import HEADERS, asks_for, tape
from tests.faults.parts import SLACK_S, Line, agent_apart, coordinator_apart, coordinator_settings, line

CLIENTS = 8
DEPLOY_S = 5.0
"""How long an agent waits at most before it comes back to a coordinator that restarts (protocol.md 10)."""


async def half_answered(parts: Line, stack: AsyncExitStack) -> tuple[list[RawClient], list[asyncio.Event]]:
    """Clients in the middle of their answers, and the gates that hold these."""
    names = [f"half-{number}" for number in range(CLIENTS)]
    gates = [parts.engine.hold(name, before=10) for name in names]
    clients = [await stack.enter_async_context(parts.client(name)) for name in names]
    await asyncio.gather(*(client.first(10) for client in clients))
    return clients, gates


async def rest_of(clients: list[RawClient]) -> list[Heard]:
    return await asyncio.gather(*(client.rest() for client in clients))


async def test_a_deploy_of_the_coordinator_ends_answers_cleanly_and_has_its_agents_back_in_5_s(
    tmp_path: Path,
) -> None:
    """Who is done within the grace is whole, the others get an error; the successor serves; field note 68."""
    loop = asyncio.get_running_loop()
    brief = {"SHUTDOWN_GRACE_S": "1"}
    async with line(tmp_path, apart=True, coordinator=brief) as parts, AsyncExitStack() as stack:
        clients, gates = await half_answered(parts, stack)
        successor = await stack.enter_async_context(coordinator_apart(coordinator_settings()))
        parts.proxy.target_port = (await successor.event("listening"))["port"]
        parts.coordinator.stop()
        await parts.coordinator.event("draining")
        for gate in gates[:4]:
            gate.set()
        heard = await rest_of(clients)
        await parts.agent.event("disconnected")
        left_s = loop.time()
        await successor.event("capabilities_taken")
        back_s = loop.time() - left_s
        ended = await parts.coordinator.end()
        parts.port = parts.proxy.target_port
        next_one = await parts.ask("next")
        await parts.is_idle()

    assert [each.body for each in heard[:4]] == [tape(f"half-{number}") for number in range(4)]
    assert all(each.has_one_clean_end(tape(f"half-{number}")) for number, each in enumerate(heard))
    assert not any(each.is_whole for each in heard[4:])
    assert ended.code == 0
    assert back_s < DEPLOY_S + SLACK_S
    assert next_one.body == tape("next")


async def test_the_newer_of_two_agents_with_one_identity_wins(tmp_path: Path) -> None:
    """The older one stops with 75, so that no service starts it again into a fight."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        await half_answered(parts, stack)
        newer = await stack.enter_async_context(agent_apart(second_start(parts)))
        await newer.event("ready")
        older = await parts.agent.end()
        heard = await parts.ask("next")

    assert older.code == 75
    assert heard.body == tape("next")


async def test_an_agent_that_was_killed_and_started_again_says_so_by_having_nothing_to_resume(
    tmp_path: Path,
) -> None:
    """Answers that had begun end with an error as soon as it is back; those that had not are served."""
    loop = asyncio.get_running_loop()
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        clients, _ = await half_answered(parts, stack)
        parts.engine.hold("unanswered", before=HEADERS)
        unanswered = await stack.enter_async_context(parts.client("unanswered"))
        await parts.engine.is_asked("unanswered")
        await parts.agent.kill()
        parts.agent = await stack.enter_async_context(agent_apart(parts.agent_environ))
        await parts.agent.event("connected")
        back_s = loop.time()
        heard = await rest_of(clients)
        told_s = loop.time() - back_s
        served = await unanswered.rest()
        await parts.is_idle()

    assert [each.error for each in heard] == ["session_lost"] * CLIENTS
    assert all(each.has_one_clean_end(tape(f"half-{number}")) for number, each in enumerate(heard))
    assert told_s < SLACK_S
    assert served.body == tape("unanswered")


async def test_a_killed_coordinator_cuts_its_clients_and_leaks_nothing(tmp_path: Path) -> None:
    """No half answer looks whole; the agent lets its jobs go, and serves whoever follows; field note 67."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        clients, _ = await half_answered(parts, stack)
        await parts.coordinator.kill()
        heard = await rest_of(clients)
        successor = coordinator_apart(coordinator_settings(), port=parts.port)
        await stack.enter_async_context(successor)
        await successor.event("capabilities_taken")
        next_one = await parts.ask("next")
        await parts.is_idle()

    assert all(each.is_cut for each in heard)
    assert all(each.has_one_clean_end(tape(f"half-{number}")) for number, each in enumerate(heard))
    assert next_one.body == tape("next")


async def test_a_killed_engine_ends_its_answers_with_an_error_and_leaks_nothing(tmp_path: Path) -> None:
    """Each client of it gets one typed error; once the engine is back, its model is served again."""
    often = {"DISCOVERY__INTERVAL_S": "1"}
    async with Program("--port", "0", module="tests.fakes.tapes") as engine:
        port = (await engine.event("listening"))["port"]
        place = {"BACKENDS__0__URL": f"http://127.0.0.1:{port}"}
        async with line(tmp_path, apart=True, agent=often | place) as parts, AsyncExitStack() as stack:
            wanted = [asks_for(f"half-{number}", stops_before=10) for number in range(CLIENTS)]
            clients = [await stack.enter_async_context(RawClient(parts.port, each)) for each in wanted]
            await asyncio.gather(*(client.first(10) for client in clients))
            await engine.kill()
            heard = await rest_of(clients)
            await parts.is_idle()
            again = Program("--port", str(port), module="tests.fakes.tapes")
            await stack.enter_async_context(again)
            await again.event("listening")
            await parts.is_served_again()

    assert {each.error for each in heard} == {"stream_truncated"}
    assert all(each.has_one_clean_end(tape(f"half-{number}")) for number, each in enumerate(heard))


async def test_sigterm_lets_every_answer_of_an_agent_end(tmp_path: Path) -> None:
    """It takes no more, finishes what it has, and leaves with 0; field note 44."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        clients, gates = await half_answered(parts, stack)
        parts.agent.stop()
        draining = await parts.agent.event("draining")
        for gate in gates:
            gate.set()
        heard = await rest_of(clients)
        ended = await parts.agent.end()

    assert draining["active_jobs"] == CLIENTS
    assert [each.body for each in heard] == [tape(f"half-{number}") for number in range(CLIENTS)]
    assert ended.code == 0


async def test_requests_wait_for_an_agent_that_is_started_anew(tmp_path: Path) -> None:
    """An upgrade of the agent costs its clients a moment, and no error."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        parts.agent.stop()
        await parts.agent.end()
        waiting = asyncio.create_task(parts.ask("waiting"))
        parts.agent = await stack.enter_async_context(agent_apart(parts.agent_environ))
        heard = await waiting

    assert heard.body == tape("waiting")


async def test_requests_wait_for_the_agents_of_a_coordinator_that_is_started_anew(tmp_path: Path) -> None:
    """It serves before its agents are back."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        parts.coordinator.stop()
        await parts.coordinator.end()
        successor = coordinator_apart(coordinator_settings(), port=parts.port)
        await stack.enter_async_context(successor)
        await successor.event("listening")
        heard = await parts.ask("waiting")

    assert heard.body == tape("waiting")


async def test_sigterm_finishes_answers_over_a_connection_that_breaks(tmp_path: Path) -> None:
    """An agent that leaves resumes, too: its last answers are not lost with the line; field note 8."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        clients, gates = await half_answered(parts, stack)
        parts.agent.stop()
        await parts.agent.event("draining")
        parts.proxy.newest.cut()
        for gate in gates:
            gate.set()
        heard = await rest_of(clients)
        ended = await parts.agent.end()

    assert [each.body for each in heard] == [tape(f"half-{number}") for number in range(CLIENTS)]
    assert ended.code == 0


def second_start(parts: Line) -> dict[str, str]:
    """The same agent once more; its status page goes elsewhere."""
    return {**parts.agent_environ, "PROVIDER_AGENT__TELEMETRY__STATUS_LISTEN": ""}
