"""Any engines, cancels and changes of the settings at any time: one outcome a job, one engine's answer."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import (
    AuthRejected,
    BackendFailed,
    BackendLoading,
    BackendUnreachable,
    BadRequest,
    Call,
    FirstByteTimeout,
    ModelNotFound,
    RateLimited,
    StreamTruncated,
)
from provider_agent.backends.discovery import Catalog, CatalogEntry
from tests.fakes.backends import BackendThatBreaksWhenLeft, ScriptedBackend, ScriptedReply
from tests.fakes.executors import Bench, executing, job
from tests.simulation.loop import run_virtually

DEADLINE_MS = 100_000
LATEST_S = 40
SECONDS = st.integers(0, LATEST_S * 4).map(lambda quarters: quarters / 4)
BEFORE_HEADERS = (AuthRejected, BackendFailed, BackendLoading, BackendUnreachable, ModelNotFound, RateLimited)
AFTER_THEM = (BackendFailed, BadRequest, FirstByteTimeout, StreamTruncated)


class Engine(ScriptedBackend):
    """Takes its time, and then answers with its own name, fails, or does neither.

    Attributes:
        asked: the body of each job that it was given.
    """

    def __init__(self, name: str, character: "Character") -> None:
        super().__init__(name=name, max_concurrent=character.slots, priority=character.priority)
        self._character = character
        self.asked: list[bytes] = []

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[ScriptedReply]:
        self.asked.append(call.body)
        async with super().open(call) as reply:
            await asyncio.sleep(self._character.wait_s)
            if self._character.refuses is not None:
                raise self._character.refuses("no")
            yield reply

    def reply(self) -> ScriptedReply:
        fails = self._character.fails
        says = [self.name.encode()] * self._character.says
        hangs = [asyncio.Event()] if self._character.hangs else []
        return ScriptedReply([*says, *hangs, *([fails("cut")] if fails else [])], self.usage)


class BrittleEngine(BackendThatBreaksWhenLeft, Engine):
    """Says that its connection broke whenever somebody leaves it."""


@dataclass(frozen=True)
class Character:
    """What an engine does with every job."""

    wait_s: float
    refuses: type[Exception] | None
    says: int
    hangs: bool
    fails: type[Exception] | None
    slots: int | None
    priority: int
    is_brittle: bool

    def engine(self, name: str) -> Engine:
        return (BrittleEngine if self.is_brittle else Engine)(name, self)


CHARACTERS = st.builds(
    Character,
    wait_s=st.sampled_from([0.0, 0.25, 7.0]),
    refuses=st.sampled_from([None, None, *BEFORE_HEADERS]),
    says=st.integers(0, 2),
    hangs=st.sampled_from([False, False, True]),
    fails=st.sampled_from([None, None, *AFTER_THEM]),
    slots=st.sampled_from([None, 1, 2]),
    priority=st.integers(1, 2),
    is_brittle=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    characters=st.lists(CHARACTERS, min_size=1, max_size=5),
    comings_s=st.lists(SECONDS, min_size=1, max_size=8),
    leavings_s=st.lists(st.none() | SECONDS, min_size=8, max_size=8),
    removals_s=st.lists(st.none() | SECONDS, min_size=5, max_size=5),
)
def test_whatever_happens_each_job_ends_once_with_the_answer_of_one_engine(
    characters: list[Character],
    comings_s: list[float],
    leavings_s: list[float | None],
    removals_s: list[float | None],
) -> None:
    """No engine is asked twice by a job, after a cancel, or once it was taken out (I1, I3)."""

    async def play() -> None:
        engines = [character.engine(f"e{number};") for number, character in enumerate(characters)]
        world = World(engines)
        loop = asyncio.get_running_loop()
        async with executing(*engines) as world.bench:
            for engine, at_s in zip(engines, removals_s, strict=False):
                if at_s is not None:
                    loop.call_later(at_s, world.remove, engine)
            for number, (came_s, left_s) in enumerate(zip(comings_s, leavings_s, strict=False)):
                loop.call_later(came_s, world.dispatch, number)
                if left_s is not None:
                    loop.call_later(left_s, world.cancel, number)
            await asyncio.sleep(LATEST_S + DEADLINE_MS / 1000 + 1)
            world.check(len(comings_s))

    run_virtually(play())


class World:
    """An executor, its engines, and what happens to both."""

    bench: Bench

    def __init__(self, engines: list[Engine]) -> None:
        self._engines = engines
        self._asked_before: dict[str, int] = {}
        """How often those were asked that were taken out."""
        self._asked_by_then: dict[int, int] = {}
        """Of how many engines jobs were asked that were cancelled."""

    def dispatch(self, number: int) -> None:
        request = msgspec.Raw(_body(number))
        self.bench.submit(job(f"j{number}", deadline_ms=DEADLINE_MS, request=request))

    def cancel(self, number: int) -> None:
        if any(running.job.job_id == f"j{number}" for running in self.bench.executor.running):
            self.bench.executor.cancel(f"j{number}")
            self._asked_by_then[number] = self._asked_by(number)

    def _asked_by(self, number: int) -> int:
        return sum(body == _body(number) for engine in self._engines for body in engine.asked)

    def remove(self, engine: Engine) -> None:
        """A job that was given to it in this moment may still begin there."""
        self._asked_before[engine.name] = 0
        left = [each for each in self._engines if each.name not in self._asked_before]
        entries = tuple(CatalogEntry(each, each.models, healthy=True) for each in left)
        self.bench.executor.table = RoutingTable(Catalog(entries), Policy())
        asyncio.get_running_loop().call_later(0.01, self._note, engine)

    def _note(self, engine: Engine) -> None:
        self._asked_before[engine.name] = len(engine.asked)

    def check(self, jobs: int) -> None:
        line = self.bench.line
        assert sorted(outcome.job_id for outcome in line.outcomes) == sorted(
            f"j{each}" for each in range(jobs)
        )
        assert self.bench.executor.running == ()
        assert len(self.bench.ended) + len(self.bench.refused) == jobs
        for engine in self._engines:
            assert engine.open_connections == 0
            assert len(set(engine.asked)) == len(engine.asked)
            assert len(engine.asked) == self._asked_before.get(engine.name, len(engine.asked))
            assert engine.most_open <= (engine.max_concurrent or jobs)
        assert all(self._asked_by(number) == asked for number, asked in self._asked_by_then.items())
        for number in range(jobs):
            names = {started.backend for started in line.started if started.job_id == f"j{number}"}
            assert set(re.findall(rb"e.;", line.body(f"j{number}"))) == {name.encode() for name in names}
            assert len(names) <= 1


def _body(number: int) -> bytes:
    return b'{"n":%d}' % number
