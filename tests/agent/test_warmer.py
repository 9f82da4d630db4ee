"""Models are loaded beside everything else, and in nobody's way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.pump import Pump
from provider_agent.agent.routing import Policy, Route, RoutingTable
from provider_agent.agent.warmer import Warmer
from provider_agent.agent.warmth import CHECK_S, FIRST_RETRY_S, MOST_LOSSES, SETTLE_S
from provider_agent.backends.base import BackendFailed
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.transport.lane import Lane
from tests.fakes.backends import BackendThatLoads, ScriptedBackend
from tests.fakes.clocks import ManualClock
from tests.fakes.executors import job
from tests.fakes.logs import LogLines

LATE_S = 5.0


@dataclass
class Agent:
    """What a warmer sees of its agent."""

    backends: tuple[ScriptedBackend, ...]
    policy: Policy = field(default_factory=Policy)
    clock: ManualClock = field(default_factory=ManualClock)
    running: list[RunningJob] = field(default_factory=list)

    def table(self) -> RoutingTable:
        """As it is when every engine has just been looked at."""
        entries = (CatalogEntry(backend, backend.models, healthy=True) for backend in self.backends)
        return RoutingTable(Catalog(tuple(entries)), self.policy)

    def warmer(self, *globs: str) -> Warmer:
        return Warmer(globs, table=self.table, running=lambda: self.running, clock=self.clock)

    def run_job(self, backend: ScriptedBackend, model: int = 0) -> None:
        lane, route = Lane("r"), Route(backend, backend.models[model])
        pump = Pump(lane, clock=self.clock, patience_s=1)
        self.running.append(RunningJob(job("r"), lane, pump, route, started_s=0.0))


@asynccontextmanager
async def at_work(warmer: Warmer) -> AsyncIterator[Warmer]:
    """Run it; it goes on for ever."""
    task = asyncio.create_task(warmer.run())
    try:
        async with asyncio.timeout(LATE_S):
            yield warmer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def has_settled(is_so: Callable[[], bool]) -> None:
    """Let everything run that can; what is asked for must be so then."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert is_so()


async def test_what_is_wanted_is_loaded() -> None:
    """The ordinary case: one of three, by its public name; whoever listens hears of it."""
    backend = BackendThatLoads("a", "b", "c")
    told: list[str] = []
    lines = LogLines()
    warmer = Agent((backend,), Policy(aliases={"nice": "b"})).warmer("ni*")
    warmer.on_loaded = told.append
    async with at_work(warmer):
        await backend.was_asked(1)
        await has_settled(lambda: told == ["loads"])

    assert backend.asked == ["b"]
    assert [(each["backend"], each["model_id"]) for each in lines.named("model_loaded")] == [("loads", "b")]


async def test_what_is_hidden_is_not_loaded() -> None:
    """No job could use it."""
    backend = BackendThatLoads("a")
    async with at_work(Agent((backend,), Policy(hide=("a",))).warmer("*")):
        await has_settled(lambda: backend.asked == [])


async def test_without_a_wish_nothing_is_asked() -> None:
    """As it is by default."""
    backend = BackendThatLoads("a")
    async with at_work(Agent((backend,)).warmer()):
        await has_settled(lambda: backend.asked == [])


async def test_one_engine_loads_one_model_at_a_time_and_another_engine_beside_it() -> None:
    """Two loads at once would fight for disk and memory."""
    slow, other = BackendThatLoads("a", "b", name="slow"), BackendThatLoads("a", name="other")
    slow.ready.clear()
    async with at_work(Agent((slow, other)).warmer("*")):
        await other.was_asked(1)
        await has_settled(lambda: slow.asked == ["a"])
        slow.ready.set()
        await slow.was_asked(2)

    assert slow.asked == ["a", "b"]


async def test_what_is_in_memory_is_kept_there_and_is_no_news() -> None:
    """Its engine may have forgotten it by the next time."""
    backend, lines = BackendThatLoads("a", loaded=["a"]), LogLines()
    agent = Agent((backend,))
    async with at_work(agent.warmer("a")) as warmer:
        await backend.was_asked(1)
        agent.clock.advance(CHECK_S)
        warmer.look()
        await backend.was_asked(2)

    assert lines.entries == []


@pytest.mark.parametrize("busy_with", ["the model", "its last slot"])
async def test_no_slot_of_a_client_is_taken(busy_with: str) -> None:
    """A job keeps its own model in memory; and an engine whose slots are taken is asked later."""
    backend = BackendThatLoads("a", "b")
    agent = Agent((backend,))
    if busy_with == "the model":
        agent.run_job(backend, model=0)
    else:
        backend.max_concurrent = 1
        agent.run_job(backend, model=1)
    async with at_work(agent.warmer("a")) as warmer:
        await has_settled(lambda: backend.asked == [])
        agent.running.clear()
        warmer.look()
        await backend.was_asked(1)

    assert backend.asked == ["a"]


async def test_a_failure_is_told_once_with_its_reason_and_tried_again() -> None:
    """Not each time: the operator has read it."""
    backend, lines = BackendThatLoads("a"), LogLines()
    backend.fails = BackendFailed("model requires more system memory")
    agent = Agent((backend,))
    async with at_work(agent.warmer("a")) as warmer:
        for times in (1, 2, 3):
            await backend.was_asked(times)
            await has_settled(lambda times=times: len(backend.asked) == times)  # type: ignore[misc]
            agent.clock.advance(FIRST_RETRY_S * 4)
            warmer.look()

    (line,) = lines.named("model_not_loaded")
    assert (line["model_id"], line["reason"]) == ("a", "model requires more system memory")
    assert line["retry_s"] == FIRST_RETRY_S


async def test_a_defect_of_ours_ends_neither_the_agent_nor_the_warmth_of_others() -> None:
    """It is logged whole."""
    broken, other, lines = BackendThatLoads("a", name="broken"), BackendThatLoads("b"), LogLines()
    broken.fails = KeyError("a defect")
    async with at_work(Agent((broken, other)).warmer("*")):
        await broken.was_asked(1)
        await other.was_asked(1)
        await has_settled(lambda: bool(lines.named("warming_crashed")))


async def test_models_that_do_not_fit_together_are_not_loaded_in_a_circle() -> None:
    """After a few rounds one of them is left alone, with the reason, and the other stays."""
    backend, lines = BackendThatLoads("a", "b", room=1), LogLines()
    agent = Agent((backend,))
    async with at_work(agent.warmer("*")) as warmer:
        for _ in range(20):
            warmer.look()
            await has_settled(lambda: True)
            agent.clock.advance(SETTLE_S)

    (line,) = lines.named("model_not_kept_warm")
    assert "more models are wanted than fit into memory" in line["reason"]
    assert (
        len([each for each in lines.named("model_loaded") if each["model_id"] == line["model_id"]])
        == MOST_LOSSES
    )
    assert backend.asked[-3:] == [{"a": "b", "b": "a"}[line["model_id"]]] * 3


async def test_other_wishes_hold_at_once() -> None:
    """The settings have changed; also what had failed is tried."""
    backend = BackendThatLoads("a", "b")
    backend.fails = BackendFailed("too large")
    async with at_work(Agent((backend,)).warmer("a")) as warmer:
        await backend.was_asked(1)
        await has_settled(lambda: True)
        backend.fails = None
        warmer.use(["a", "b"])
        await backend.was_asked(3)

    assert backend.asked == ["a", "a", "b"]


async def test_leaving_ends_a_load_that_is_under_way() -> None:
    """Nobody waits minutes for it, and nothing is unloaded."""
    backend = BackendThatLoads("a")
    backend.ready.clear()
    async with at_work(Agent((backend,)).warmer("a")):
        await backend.was_asked(1)

    assert backend.asked == ["a"]
