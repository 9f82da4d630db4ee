"""Connections between agent and coordinator that break while answers are under way."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.fakes.clients import ask
from tests.fakes.proxy import ProxiedConnection
from tests.fakes.tapes import HEADERS, asks_for, tape
from tests.faults.parts import SLACK_S, line, wait_briefly

STREAMS = 200
CUTS = 50
SEED = 20_260
FIRST_RETRY_S = 1.0
"""How long an agent waits at most before its first try after an accident (protocol.md 10)."""


async def test_200_streams_come_whole_through_50_cuts(tmp_path: Path) -> None:
    """In a frame or in a handshake: each client gets every byte once, and its end mark; field note 47."""
    dice = random.Random(SEED)  # noqa: S311 - a story to be told again
    streams = {f"stream-{number}": dice.randrange(40, 80) for number in range(STREAMS)}

    async with line(tmp_path, apart=False, wait=wait_briefly) as parts:
        cut: list[ProxiedConnection] = []

        def prepare(connection: ProxiedConnection) -> None:
            if len(cut) < CUTS:
                cut.append(connection)
                if dice.random() < 0.75:
                    connection.up.cut_after(dice.randrange(1, 60_000))
                else:
                    connection.down.cut_after(dice.randrange(1, 4_000))

        prepare(parts.proxy.newest)
        parts.proxy.on_connection = prepare
        heard = await asyncio.gather(*(parts.ask(name, events=count) for name, count in streams.items()))
        await parts.is_idle()

    told = {
        name: answer.error or "cut"
        for name, answer in zip(streams, heard, strict=True)
        if not answer.is_whole
    }
    assert told == {}
    wrong = [
        name
        for (name, count), answer in zip(streams.items(), heard, strict=True)
        if answer.body != tape(name, events=count)
    ]
    assert wrong == []
    assert len(cut) == CUTS
    assert all(each.closed.is_set() for each in cut)
    assert set(parts.engine.counts.values()) == {1}


async def test_a_long_stream_pauses_for_a_cut_and_goes_on(tmp_path: Path) -> None:
    """Its engine is not asked again: what it says meanwhile waits in the agent; field note 10."""
    async with line(tmp_path, apart=False) as parts:
        gate = parts.engine.hold("long", before=10)
        async with parts.client("long", events=200) as client:
            await client.first(10)
            parts.proxy.refuse()
            parts.proxy.newest.cut()
            await parts.agent.event("disconnected")
            gate.set()
            connection = await parts.engine.is_asked("long")
            await connection.closed.wait()  # all of it is with the agent
            parts.proxy.accept()
            heard = await client.rest()

    assert heard.is_whole
    assert heard.body == tape("long", events=200)
    assert parts.engine.counts == {"long": 1}


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_connection_that_is_half_closed_is_given_up_and_resumed(tmp_path: Path, way: str) -> None:
    """One direction has ended, the other would still carry: neither side stays in half a conversation."""
    async with line(tmp_path, apart=False) as parts:
        gate = parts.engine.hold("half", before=10)
        async with parts.client("half") as client:
            await client.first(10)
            (parts.proxy.newest.up if way == "up" else parts.proxy.newest.down).half_close()
            await parts.agent.event("disconnected")
            gate.set()
            heard = await client.rest()

    assert heard.body == tape("half")
    assert len(parts.proxy.connections) == 2


async def test_a_job_that_was_cut_on_its_way_to_the_agent_is_sent_again(tmp_path: Path) -> None:
    """The agent never saw it whole, so it does not list it; the client only waits a moment longer."""
    async with line(tmp_path, apart=False) as parts:
        parts.proxy.newest.down.cut_after(2_000_000)
        wanted = {**asks_for("large"), "padding": "x" * 6_000_000}
        heard = await ask(parts.port, wanted)

    assert heard.body == tape("large")
    assert parts.engine.counts == {"large": 1}
    assert len(parts.proxy.connections) == 2


async def test_a_full_window_is_replayed_after_a_cut(tmp_path: Path) -> None:
    """The client had not read for long: what nobody had acknowledged goes again, and then all the rest."""
    wanted = {"events": 400, "event_bytes": 16 * 1024}
    async with line(tmp_path, apart=False) as parts:
        async with parts.client("late", room_bytes=8 * 1024, **wanted) as client:
            await client.read(1024)
            await parts.stands_still()
            parts.proxy.newest.cut()
            await parts.agent.event("disconnected")
            await parts.proxy.connected(2)
            heard = await client.rest()
        await parts.is_idle()

    assert heard.body == tape("late", **wanted)
    assert parts.engine.counts == {"late": 1}


async def test_an_answer_that_is_not_streamed_survives_a_cut(tmp_path: Path) -> None:
    """It is neither lost nor asked for again."""
    async with line(tmp_path, apart=False) as parts:
        gate = parts.engine.hold("whole", before=HEADERS)
        async with parts.client("whole", stream=False) as client:
            await parts.engine.is_asked("whole")
            parts.proxy.newest.cut()
            await parts.agent.event("disconnected")
            gate.set()
            heard = await client.rest()

    assert heard.is_whole
    assert parts.engine.counts == {"whole": 1}


async def test_a_cancel_while_the_connection_is_down_reaches_the_engine(tmp_path: Path) -> None:
    """The client left meanwhile: after the resume nobody wants the answer, and the engine is let go."""
    async with line(tmp_path, apart=False) as parts:
        parts.engine.hold("unwanted", before=10)
        async with parts.client("unwanted") as client:
            await client.first(10)
            parts.proxy.refuse()
            parts.proxy.newest.cut()
            await parts.agent.event("disconnected")
        parts.proxy.accept()
        await parts.engine.served["unwanted"].closed.wait()
        await parts.is_idle()
        heard = await parts.ask("next")

    assert heard.body == tape("next")


async def test_an_agent_with_a_new_address_takes_its_own_place_at_once(tmp_path: Path) -> None:
    """Its old connection stays half-open at the coordinator: nobody waits for that to time out."""
    loop = asyncio.get_running_loop()
    async with line(tmp_path, apart=False) as parts:
        gate = parts.engine.hold("moving", before=10)
        async with parts.client("moving") as client:
            await client.first(10)
            old = parts.proxy.newest
            cut_s = loop.time()
            old.cut(far=False)
            gate.set()
            heard = await client.rest()
            took_s = loop.time() - cut_s
        next_one = await parts.ask("next")
        told = tuple(parts.agent.told)

    assert heard.body == tape("moving")
    assert next_one.body == tape("next")
    assert took_s < FIRST_RETRY_S + SLACK_S
    assert "stopped" not in told  # it was not taken for a second agent


async def test_after_the_resume_window_the_client_learns_that_its_answer_is_lost(tmp_path: Path) -> None:
    """One typed error, at the window's end; the agent lets go of the engine, and serves when it is back."""
    window_s = 1.0
    loop = asyncio.get_running_loop()
    short = {"RESUME_WINDOW_S": str(window_s)}
    async with line(tmp_path, apart=False, coordinator=short) as parts:
        parts.engine.hold("lost", before=10)
        async with parts.client("lost") as client:
            await client.first(10)
            parts.proxy.refuse()
            cut_s = loop.time()
            parts.proxy.newest.cut()
            heard = await client.rest()
            took_s = loop.time() - cut_s
        await parts.engine.served["lost"].closed.wait()
        parts.proxy.accept()
        await parts.is_served_again()
        await parts.is_idle()

    assert heard.error == "session_lost"
    assert heard.has_one_clean_end(tape("lost"))
    assert window_s <= took_s < window_s + SLACK_S


async def test_a_slow_and_distant_coordinator_is_served_as_well(tmp_path: Path) -> None:
    """80 ms away and 400 kB/s: the windows still carry 20 answers, byte by byte."""
    async with line(tmp_path, apart=False) as parts:
        for pipe in (parts.proxy.newest.up, parts.proxy.newest.down):
            pipe.latency_s = 0.04
        parts.proxy.newest.up.bytes_per_s = 400_000
        names = [f"far-{number}" for number in range(20)]
        heard = await asyncio.gather(*(parts.ask(name, events=100) for name in names))

    assert [each.body for each in heard] == [tape(name, events=100) for name in names]
    assert len(parts.proxy.connections) == 1
