"""One run from one seed: agents, a coordinator, clients, and trouble; then the promises are checked."""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from provider_agent.agent.config import AgentConfig
from provider_agent.coordinator.answer import Failed
from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.coordinator.failures import CLIENT_TOO_SLOW, OVERRUN, TORN, UNREADABLE
from tests.simulation.agents import Machine, configuration
from tests.simulation.clients import Client
from tests.simulation.deployment import Deployment
from tests.simulation.loop import Stalled, run_virtually
from tests.simulation.network import Wire
from tests.simulation.story import Broken, Story

TROUBLE_S = 40.0
"""For so long clients come, and things go wrong."""

PATIENCE_S = 900.0
"""By then every client has its end: the longest way there is many attempts with waits between them."""

QUIET_S = 150.0
"""After that nobody holds anything any more: resume windows and grace times are over."""

MILD_LIMITS = DispatchLimits(queue_max_wait_s=600.0)
HARSH_LIMITS = (DispatchLimits(), DispatchLimits(), DispatchLimits(resume_window_s=5.0))

NEVER_SAID = frozenset(failure.message for failure in (TORN, OVERRUN, UNREADABLE, CLIENT_TOO_SLOW))
"""What a coordinator says only of a peer that breaks the protocol."""

Fault = Callable[[], Awaitable[None]]


class Run:
    """What one seed makes of the world.

    Half of the worlds are mild: nobody crashes or leaves, connections break and stall for less than a window,
    and each machine has an engine that does what it should. There, every client that stays gets its whole
    answer.
    """

    def __init__(self, seed: int, configs: list[AgentConfig], tasks: asyncio.TaskGroup, story: Story) -> None:
        self.story = story
        self._rng = rng = random.Random(seed)  # noqa: S311 - the dice of a test
        self._tasks = tasks
        self._configs = configs
        self._surroundings: dict[str, Any] = {"rng": rng, "story": story, "tasks": tasks}
        self._is_mild = rng.random() < 0.5
        limits = MILD_LIMITS if self._is_mild else rng.choice(HARSH_LIMITS)
        self._deployment = Deployment(limits, rng, story, tasks)
        self._machines = [
            Machine(f"a{number}", rng.choice(configs), **self._surroundings)
            for number in range(rng.randint(1, 3))
        ]
        for machine in self._machines:
            machine.dial = self._deployment.dial
            for engine in machine.engines:
                engine.trouble = 0.0 if self._is_mild else rng.choice((0.0, 0.2))
            if len(machine.engines) > 1:  # where the others have no moods, no client hears of these
                machine.engines[0].moods = rng.choice((0.0, 0.5, 1.0))
        self._clients: list[Client] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def play(self) -> None:
        for machine in self._machines:
            machine.start()
        await self._let_them_connect()
        trouble = self._tasks.create_task(self._trouble(self._rng.randint(0, 8)))
        await self._come_and_ask(self._rng.randint(4, 14))
        await asyncio.wait({trouble})
        trouble.result()
        await self._turn_up_again()
        await self._wait_for_clients()
        await asyncio.sleep(QUIET_S)
        self._check_that_nothing_is_left()
        await self._stop()

    async def _let_them_connect(self) -> None:
        """In a harsh world somebody may be late."""
        await asyncio.sleep(1.0)
        for _ in range(100):
            serving = [provider.serves for provider in self._deployment.current.dispatcher.fleet.providers]
            if not self._is_mild or sum(serving) == len(self._machines):
                break
            await asyncio.sleep(1.0)

    async def _turn_up_again(self) -> None:
        """All who were sent away start once more; but in a harsh world one may be off for good."""
        off = self._machines[-1] if not self._is_mild and self._rng.random() < 0.2 else None
        for machine in self._machines:
            if machine is not off:
                machine.start()
            else:
                self.story.counts["off for good"] += 1
                await self._kill_for_good(machine)
                machine.exit_codes.append(0)

    # --- what happens ---------------------------------------------------------------------

    async def _come_and_ask(self, count: int) -> None:
        for number in range(count):
            await asyncio.sleep(
                self._rng.choice((0.0, 0.0, 1.0)) * self._rng.uniform(0, TROUBLE_S / count * 2)
            )
            client = Client.by_the_dice(number, self._rng)
            self._clients.append(client)
            self._asking.add(self._tasks.create_task(client.ask(self._deployment.current, self.story)))

    async def _trouble(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(self._rng.uniform(0, TROUBLE_S / count))
            fault = self._rng.choice(self._faults())
            self.story.counts[f"fault: {_name(fault)}"] += 1
            await fault()

    def _faults(self) -> list[Fault]:
        machine = self._rng.choice(self._machines)
        wire = self._deployment.wires.get(machine.name)
        hurts: list[Fault] = []
        if wire is not None and wire.is_open:
            hurts = [partial(self._hurt, wire, way) for way in self._ways_to_hurt(wire)]
        if self._is_mild:
            return hurts or [self._let_be]
        return [
            *hurts * 3,
            partial(self._kill, machine),
            partial(self._terminate, machine),
            partial(self._run_a_twin, machine),
            partial(self._deployment.replace, self._rng.uniform(0, 20)),
            self._deployment.crash,
        ]

    def _ways_to_hurt(self, wire: Wire) -> list[Callable[[], None]]:
        late_s, longest_s = self._rng.uniform(0, 9), 15 if self._is_mild else 35
        return [
            wire.cut,
            partial(wire.cut_for, "agent", late_s),
            partial(wire.cut_for, "coordinator", late_s),
            wire.go_silent,
            partial(wire.stall, "agent", self._rng.uniform(0, longest_s)),
            partial(wire.stall, "coordinator", self._rng.uniform(0, longest_s)),
        ]

    async def _hurt(self, wire: Wire, way: Callable[[], None]) -> None:
        self.story.tell(wire.name, way)
        way()

    async def _let_be(self) -> None:
        """There is nobody to hurt just now."""

    async def _kill_for_good(self, machine: Machine) -> None:
        wire = self._deployment.wires.get(machine.name)
        if wire is not None:
            wire.cut()
        await machine.kill()

    async def _kill(self, machine: Machine) -> None:
        await self._kill_for_good(machine)
        await asyncio.sleep(self._rng.uniform(0, 5))
        machine.start()

    async def _terminate(self, machine: Machine) -> None:
        machine.terminate()
        await asyncio.sleep(self._rng.uniform(0, 40))
        machine.start()

    async def _run_a_twin(self, machine: Machine) -> None:
        """Somebody copies the identity to another machine: the newer connection wins, the older exits."""
        twin = Machine(f"{machine.name}'", self._rng.choice(self._configs), **self._surroundings)
        twin.dial, twin.identity = machine.dial, machine.identity
        twin.start()
        await asyncio.sleep(self._rng.uniform(0, 20))
        await self._kill_for_good(twin)
        for engine in twin.engines:
            self.story.demand(engine.open_jobs == 0, f"{engine.name} works for nobody")
        machine.start()

    async def _stop(self) -> None:
        for machine in self._machines:
            await machine.kill()
        await self._deployment.stop()

    # --- what must be true ----------------------------------------------------------------

    async def _wait_for_clients(self) -> None:
        if self._asking:
            _, late = await asyncio.wait(self._asking, timeout=PATIENCE_S)
            self.story.demand(not late, f"{len(late)} clients have no end after {PATIENCE_S:g} s")
        for client in self._clients:
            name, end = f"client {client.number}", client.end
            self.story.demand(client.is_over, f"{name} is not over")
            if isinstance(end, Failed):
                self.story.demand(not self._is_mild, f"{name} has a failure in a mild world: {end}")
                self.story.demand(end.message not in NEVER_SAID, f"{name} hears of a broken protocol: {end}")

    def _check_that_nothing_is_left(self) -> None:
        dispatcher, demand = self._deployment.current.dispatcher, self.story.demand
        view = dispatcher.view()
        demand(view.running_jobs == 0, f"the coordinator counts {view.running_jobs} jobs for nobody")
        demand(view.waiting_jobs == 0, f"the coordinator lets {view.waiting_jobs} jobs wait for nobody")
        for machine in self._machines:
            for engine in machine.engines:
                demand(engine.open_jobs == 0, f"{engine.name} works for nobody")
            agent = machine.agent
            if agent is None:
                demand(machine.exit_codes, f"{machine.name} ended without an exit code")
                continue
            jobs = agent.executor_for_tests
            demand(not jobs.running, f"{machine.name} runs {jobs.running}")
            demand(not jobs.resumable(), f"{machine.name} keeps {jobs.resumable()}")
        present = sum(machine.agent is not None for machine in self._machines)
        demand(view.agents == present, f"{present} agents run, and the coordinator has {view.agents}")


def _name(fault: Fault) -> str:
    what = fault.args[-1] if isinstance(fault, partial) and fault.args else fault
    called = what if not isinstance(what, Machine | float) else fault
    called = called.func if isinstance(called, partial) else called
    return getattr(called, "__name__", "").strip("_")


async def _run(seed: int, configs: list[AgentConfig], stories: list[Story]) -> None:
    story = Story(asyncio.get_running_loop().time)
    stories.append(story)
    try:
        async with asyncio.TaskGroup() as tasks:
            await Run(seed, configs, tasks, story).play()
    except* Broken as group:
        raise group.exceptions[0] from None


@dataclass(frozen=True)
class Result:
    """What came of one seed.

    Attributes:
        broken: the promise that was not kept, and the story of it; empty when all were.
        counts: what happened, so that it can be seen whether the dice fall on everything.
    """

    seed: int
    broken: str
    counts: Mapping[str, int]


def simulate(seed: int, configs: list[AgentConfig]) -> Result:
    """Play one seed."""
    stories: list[Story] = []
    broken = ""
    try:
        run_virtually(_run(seed, configs, stories))
    except (Broken, Stalled, ExceptionGroup) as error:
        why = "".join(traceback.format_exception(error)) if isinstance(error, ExceptionGroup) else repr(error)
        broken = f"seed {seed}: {why}\n{stories[0]}"
    return Result(seed, broken, dict(stories[0].counts))


def usual_configs() -> list[AgentConfig]:
    """Agents with few slots and with more."""
    return [
        configuration(
            PROVIDER_AGENT__LIMITS__MAX_CONCURRENT=str(slots), PROVIDER_AGENT__LIMITS__SHUTDOWN_GRACE_S="10"
        )
        for slots in (1, 2, 4)
    ]
