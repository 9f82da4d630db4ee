"""Agents come in by a real WebSocket, and are sent away before the server stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.enrollment import Enrollment
from provider_agent.coordinator.events import Event, HandshakeEnded, SessionEnded
from provider_agent.coordinator.http.agents import PATH, STRANGER_BYTES, AgentDoor
from provider_agent.coordinator.http.errors import tell_errors
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.transport.channel import ChannelClosed
from provider_agent.transport.dialled import DialError, DialOptions, dial
from tests.fakes.agents import CHAT
from tests.fakes.coordinators import LIMIT_S, until
from tests.fakes.peers import ScriptedAgent

REQUEST = JobRequest("m", CHAT, b'{"model":"m"}', stream=True)


@dataclass
class Entrance:
    """The agents' door on loopback."""

    door: AgentDoor
    dispatcher: Dispatcher
    runner: web.AppRunner
    events: list[Event]
    agents: list[ScriptedAgent] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.runner.addresses[0][1]}"

    async def agent(self) -> ScriptedAgent:
        agent = ScriptedAgent(await dial(f"ws://{self.address}{PATH}", DialOptions()), host="127.0.0.1")
        self.agents.append(agent)
        await agent.join("m")
        return agent


@asynccontextmanager
async def entrance() -> AsyncIterator[Entrance]:
    events: list[Event] = []
    dispatcher = Dispatcher(DispatchLimits(), clock=asyncio.get_running_loop().time, on_event=events.append)
    enrollment = Enrollment(MemoryStore(), server_names=("127.0.0.1",), dev=True)
    door = AgentDoor(dispatcher, enrollment, on_event=events.append)
    app = web.Application(middlewares=[tell_errors])
    door.add_to(app)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Entrance(door, dispatcher, runner, events)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield made
            for agent in made.agents:
                await agent.close()
            await door.goodbye()
    finally:
        await runner.cleanup()


async def closed_by(agent: ScriptedAgent) -> ChannelClosed:
    while True:
        try:
            await agent.hear()
        except ChannelClosed as closed:
            return closed


async def test_an_agent_comes_in_and_serves() -> None:
    """The ordinary case, on a real socket; its signature covers the host that it dialled."""
    async with entrance() as it:
        agent = await it.agent()
        with it.dispatcher.run(REQUEST) as answer:
            await agent.serve(b"data: 1\n\n")

            assert await answer.read() == b"data: 1\n\n"

    assert HandshakeEnded("ok") in it.events


async def test_a_goodbye_reaches_every_agent_and_waits_for_them() -> None:
    """With the code that makes them come back soon (field note 68)."""
    async with entrance() as it:
        agents = [await it.agent() for _ in range(3)]
        listening = [asyncio.create_task(closed_by(agent)) for agent in agents]

        await it.door.goodbye()

        for each in listening:
            closed = await each
            assert (closed.code, closed.reason) == (1001, "drain:deploy")
        assert it.dispatcher.fleet.providers == ()
    assert [SessionEnded(1001)] * 3 == [event for event in it.events if isinstance(event, SessionEnded)]


async def test_nobody_comes_in_after_the_goodbye() -> None:
    """They try again when there is somebody to talk to."""
    async with entrance() as it:
        await it.door.goodbye()
        with pytest.raises(DialError) as caught:
            await it.agent()

        assert caught.value.http_status == 503


async def test_a_request_that_is_no_websocket_is_refused() -> None:
    """In one sentence, with 400 (field note 41)."""
    async with entrance() as it, aiohttp.request("GET", f"http://{it.address}{PATH}") as response:
        assert response.status == 400
        assert "error" in await response.json()


async def test_an_agent_that_vanishes_is_away_at_once() -> None:
    """Its connection is cut without a close frame; nothing more is sent there (field note 68)."""
    async with entrance() as it:
        agent = await it.agent()
        await until(lambda: bool(it.dispatcher.fleet.models))

        agent.socket.abort(ChannelClosed(None, "cut by the test"))
        await until(lambda: bool(it.dispatcher.fleet.away))
        await until(lambda: not it.door._sessions)

        assert (it.dispatcher.view().agents, it.dispatcher.view().free_slots) == (0, 0)
    assert [SessionEnded(None)] == [event for event in it.events if isinstance(event, SessionEnded)]


async def test_a_stranger_may_not_send_much() -> None:
    """What is allowed to an agent is 64 MiB, which anybody could have us keep."""
    async with entrance() as it:
        stranger = ScriptedAgent(await dial(f"ws://{it.address}{PATH}", DialOptions()), host="127.0.0.1")
        await stranger.hear()
        stranger.socket.send(b'{"type":"auth_response","pubkey":"' + bytes(STRANGER_BYTES))
        stranger.socket.flush()
        closed = await closed_by(stranger)

        assert closed.code == 1009


async def test_an_agent_that_is_known_may_send_more() -> None:
    """Of its capabilities, say."""
    async with entrance() as it:
        agent = await it.agent()
        models = [f"model-{number:05}-{'x' * 400}" for number in range(1000)]
        await agent.offer(*models, revision=2)

        assert len(it.dispatcher.fleet.models) == len(models)
