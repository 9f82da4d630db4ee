"""A whole agent whose engines all hang at once, each in another way: its heartbeats keep their time."""

import asyncio
import random
from typing import Final

from provider_agent.agent.session import Credentials
from provider_agent.backends.base import BackendSettings
from provider_agent.backends.discovery import Discovery
from provider_agent.backends.http import EngineHttp
from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.codec import decode
from provider_agent.protocol.frames import Heartbeat
from provider_agent.protocol.link import Role
from provider_agent.transport.socket import Socket
from tests.fakes.engine import chat_chunk
from tests.simulation.agents import HOST, MadeUpIdentity, SimulatedAgent, configuration
from tests.simulation.deployment import Deployment
from tests.simulation.engine_sockets import STREAM_HEAD, Conversation, EngineLoop, never
from tests.simulation.loop import run_virtually
from tests.simulation.network import Side, Wire
from tests.simulation.story import Story

INTERVAL_S: Final = 15.0
NO_DIAL, NO_FIRST_BYTE, STALLS, NO_PROBE = 8001, 8002, 8003, 8004


class HangingEngine:
    """Lists one model, named after its port, and answers no job to its end; probes hang once it is told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.probes_hang = False
        self.probes = 0
        self.jobs = 0

    async def serve(self, talk: Conversation, request: bytes) -> None:
        if request.startswith(b"POST"):
            self.jobs += 1
            if self.port == STALLS:
                talk.say(STREAM_HEAD + chat_chunk("a"))
            await never()
        self.probes += 1
        if self.probes_hang:
            await never()
        talk.say_json({"object": "list", "data": [{"id": f"m{self.port}", "owned_by": "x"}]})


class Listener:
    """Notes when each heartbeat leaves the agent."""

    def __init__(self, wire: Wire) -> None:
        self.beats_s: list[float] = []
        self.active_jobs: list[int | None] = []
        self._carried = wire.on_carry
        wire.on_carry = self._carry

    def _carry(self, side: Side, message: bytes) -> None:
        self._carried(side, message)
        if side == "agent":
            frame = decode(message, Role.AGENT)
            if isinstance(frame, Heartbeat):
                self.beats_s.append(asyncio.get_running_loop().time())
                self.active_jobs.append(frame.active_jobs)


async def hang_in_every_way(loop: EngineLoop, engines: dict[int, HangingEngine]) -> Listener:
    """The agent finds all engines; then one accepts no connection, one answers no probe, and jobs come."""
    story, rng = Story(loop.time), random.Random(1)  # noqa: S311 - the dice of a test
    async with EngineHttp() as http, asyncio.TaskGroup() as tasks:
        deployment = Deployment(DispatchLimits(queue_max_wait_s=3600.0), rng, story, tasks)
        credentials = Credentials(MadeUpIdentity("a"), HOST, None)  # type: ignore[arg-type]

        async def call() -> Socket:
            return deployment.dial("a")

        agent = SimulatedAgent(configuration(), credentials, on_event=story.tell, clock=loop.time, dial=call)
        settings = [BackendSettings("openai", f"http://127.0.0.1:{port}") for port in engines]
        discovery = Discovery(settings, http, probe_loopback=False, clock=loop.time, on_change=agent.use)
        process = tasks.create_task(agent.run(discovery, asyncio.Event(), source=rng))
        await asyncio.sleep(20)
        listener = Listener(deployment.wires["a"])
        loop.engines[NO_DIAL] = None
        engines[NO_PROBE].probes_hang = True
        clients = [
            tasks.create_task(_ask(deployment, port))
            for port in engines
            for _ in range(3)
            if port != NO_PROBE
        ]
        await asyncio.sleep(400)
        for task in (process, *clients):
            task.cancel()
        await asyncio.wait((process, *clients))
        await deployment.stop()
    return listener


async def _ask(deployment: Deployment, port: int) -> None:
    """As a client that tries for ever."""
    request = JobRequest(f"m{port}", "/v1/chat/completions", b'{"stream":true}', stream=True)
    while True:
        with deployment.current.dispatcher.run(request) as answer:
            while answer.outcome is None:
                await answer.ready()
                answer.take()
                answer.consumed()
        await asyncio.sleep(1.0)


def test_heartbeats_wait_for_no_engine() -> None:
    """A hung dial, a hung first byte, a stalled stream and a stuck probe, all at the same time."""
    engines = {port: HangingEngine(port) for port in (NO_DIAL, NO_FIRST_BYTE, STALLS, NO_PROBE)}
    loop = EngineLoop({port: engine.serve for port, engine in engines.items()})
    listener = run_virtually(hang_in_every_way(loop, engines), loop)
    gaps_s = [later - earlier for earlier, later in zip(listener.beats_s, listener.beats_s[1:], strict=False)]

    assert engines[NO_FIRST_BYTE].jobs >= 3
    assert engines[STALLS].jobs >= 3
    assert engines[NO_PROBE].probes > 5
    assert loop.hanging_dials > 5
    assert max(count or 0 for count in listener.active_jobs) >= 6
    assert len(gaps_s) >= 25
    assert all(abs(gap_s - INTERVAL_S) < 0.01 for gap_s in gaps_s), gaps_s
