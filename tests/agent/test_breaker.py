"""An engine that keeps failing gets no job for a while, then one at a time, then all of them again."""

import asyncio

import pytest

from provider_agent.agent.breaker import LATE_S, Breaker
from provider_agent.agent.circuit import FAILURES, FIRST_PAUSE_S, Key
from provider_agent.agent.routing import Route
from provider_agent.backends.base import BackendFailed, BackendLoading, RateLimited
from provider_agent.protocol.frames import JobError
from tests.fakes.backends import ScriptedBackend
from tests.fakes.executors import Bench, executing, job
from tests.fakes.logs import LogLines
from tests.simulation.loop import run_virtually

BROKEN = BackendFailed("it failed", http_status=500)


async def fail(bench: Bench, times: int = FAILURES) -> None:
    for number in range(times):
        bench.submit(job(f"failing {number}"))
        await bench.settle()


def test_an_engine_that_keeps_failing_gets_no_job_for_a_while() -> None:
    """The job learns at once how long that is; whoever offers is told, now and when it is over."""

    async def play() -> None:
        backend = ScriptedBackend(refuses=BROKEN)
        changes: list[float] = []
        loop = asyncio.get_running_loop()
        async with executing(backend) as bench:
            bench.executor.breaker.on_change = lambda: changes.append(loop.time())
            began_s = loop.time()
            await fail(bench)
            bench.submit(job("late"))
            await bench.settle()
            last = bench.line.outcomes[-1]
            assert bench.executor.breaker.open_keys == {("scripted", "m")}
            await asyncio.sleep(FIRST_PAUSE_S + LATE_S)
            assert bench.executor.breaker.open_keys == frozenset()

        assert len(backend.calls) == FAILURES
        assert isinstance(last, JobError)
        assert (last.error_code, last.retry_after_ms) == ("out_of_capacity", FIRST_PAUSE_S * 1000)
        assert changes == [began_s, began_s + FIRST_PAUSE_S + LATE_S]

    run_virtually(play())


def test_whoever_offers_is_told_when_a_pause_is_over_and_not_a_moment_before() -> None:
    """Timers may fire early: whoever looks too soon sees no slots, and nothing would make him look again."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        seen: list[frozenset[Key]] = []
        breaker = Breaker(clock=lambda: loop.time() * 0.999, running=tuple)
        breaker.on_change = lambda: seen.append(breaker.open_keys)
        backend = ScriptedBackend()
        route = Route(backend, backend.models[0])
        for _ in range(FAILURES):
            breaker.failed(route, BROKEN)
        await asyncio.sleep(2 * FIRST_PAUSE_S)

        assert seen == [{route.key}, frozenset()]

    run_virtually(play())


def test_one_job_tries_the_engine_and_its_answer_lets_the_others_in() -> None:
    """Half-open: while no byte of the trial has come, there is no room for a second one."""

    async def play() -> None:
        gate = asyncio.Event()
        backend = ScriptedBackend(gate, b"x", refuses=BROKEN)
        async with executing(backend) as bench:
            await fail(bench)
            await asyncio.sleep(FIRST_PAUSE_S)
            backend.refuses = None
            bench.submit(job("trial"), job("second"))
            await bench.settle()
            assert bench.line.codes()[FAILURES:] == ["out_of_capacity"]

            gate.set()
            await bench.settle()
            bench.submit(job("third"), job("fourth"))
            await bench.settle()

        assert bench.line.codes()[FAILURES:] == ["out_of_capacity", "done", "done", "done"]

    run_virtually(play())


def test_a_trial_waits_for_no_job_of_another_engine() -> None:
    """Nor for one there whose answer has begun: only one of which no byte has come is a trial."""

    async def play() -> None:
        gate = asyncio.Event()
        slow = ScriptedBackend(gate, name="slow", models=("other",))
        tried = ScriptedBackend(b"x", gate, name="tried", refuses=BROKEN)
        async with executing(slow, tried) as bench:
            bench.submit(job("elsewhere", model_id="other"))
            await fail(bench)
            await asyncio.sleep(FIRST_PAUSE_S)
            tried.refuses = None
            for number in range(3):
                bench.submit(job(f"j{number}"))
                await bench.settle()
            gate.set()
            await bench.settle()

        assert bench.line.codes()[FAILURES:] == ["done"] * 4

    run_virtually(play())


def test_a_circuit_that_closes_is_told_once() -> None:
    """To whoever offers, and in the log: from now on it is as if nothing had been."""

    async def play() -> None:
        logs = LogLines()
        backend = ScriptedBackend(b"x", refuses=BROKEN)
        changes: list[None] = []
        async with executing(backend) as bench:
            await fail(bench)
            await asyncio.sleep(FIRST_PAUSE_S + LATE_S)
            backend.refuses = None
            bench.executor.breaker.on_change = lambda: changes.append(None)
            for number in range(2):
                bench.submit(job(f"j{number}"))
                await bench.settle()

        (closed,) = logs.named("circuit_closed")
        assert (closed["backend"], closed["upstream_model"]) == ("scripted", "m")
        assert len(changes) == 1

    run_virtually(play())


def test_a_cancelled_trial_makes_room_for_the_next() -> None:
    """It is counted by what runs, so nothing of it can stay behind (field note 2)."""

    async def play() -> None:
        gate = asyncio.Event()
        backend = ScriptedBackend(gate, b"x", refuses=BROKEN)
        async with executing(backend) as bench:
            await fail(bench)
            await asyncio.sleep(FIRST_PAUSE_S)
            backend.refuses = None
            bench.submit(job("trial"))
            await bench.settle()
            bench.executor.cancel("trial")
            await bench.settle()
            bench.submit(job("next"))
            gate.set()
            await bench.settle()

        assert bench.line.codes()[FAILURES:] == ["cancelled", "done"]

    run_virtually(play())


def test_while_one_engine_is_out_the_other_gets_all_jobs() -> None:
    """No job waits for a failure any more (field note 25)."""

    async def play() -> None:
        broken = ScriptedBackend(name="broken", priority=1, refuses=BROKEN)
        sound = ScriptedBackend(b"x", name="sound", priority=2)
        async with executing(broken, sound) as bench:
            await fail(bench, FAILURES + 3)

        assert bench.line.codes() == ["done"] * (FAILURES + 3)
        assert len(broken.calls) == FAILURES

    run_virtually(play())


def test_an_engine_that_is_full_is_left_alone_for_as_long_as_it_asks() -> None:
    """The first job moves on; the next ones do not even ask (field note 73)."""

    async def play() -> None:
        full = ScriptedBackend(name="full", priority=1, refuses=RateLimited("slow down", retry_after_ms=4000))
        other = ScriptedBackend(b"x", name="other", priority=2)
        async with executing(full, other) as bench:
            bench.submit(job("first"), job("second"))
            await bench.settle()
            bench.submit(job("third"))
            await bench.settle()
            assert len(full.calls) == 2
            await asyncio.sleep(4.0)
            full.refuses = None
            bench.submit(job("fourth"))
            await bench.settle()

        assert bench.line.codes() == ["done"] * 4
        assert len(full.calls) == 3

    run_virtually(play())


def test_a_job_for_an_engine_that_loads_is_told_when_to_come_back() -> None:
    """Nobody else has the model."""

    async def play() -> None:
        backend = ScriptedBackend(refuses=BackendLoading("loading"))
        async with executing(backend) as bench:
            bench.submit(job("first"))
            await bench.settle()
            bench.submit(job("second"))
            await bench.settle()

        second = bench.line.outcomes[-1]
        assert isinstance(second, JobError)
        assert (second.error_code, second.retry_after_ms) == ("backend_loading", 1000)
        assert len(backend.calls) == 1

    run_virtually(play())


def test_an_engine_that_is_back_is_used_at_once() -> None:
    """It is another process than the one that failed."""

    async def play() -> None:
        backend = ScriptedBackend(b"x", refuses=BROKEN)
        async with executing(backend) as bench:
            await fail(bench)
            backend.refuses = None
            changes: list[None] = []
            bench.executor.breaker.on_change = lambda: changes.append(None)
            bench.executor.breaker.forget(())
            bench.executor.breaker.forget({"scripted"})
            bench.executor.breaker.forget({"scripted"})
            bench.submit(job("next"))
            await bench.settle()

        assert bench.line.codes()[FAILURES:] == ["done"]
        assert len(changes) == 1

    run_virtually(play())


def test_an_engine_that_answers_a_question_of_our_own_is_used_at_once() -> None:
    """It is told which one, and for how long it would be out; one that was replaced is not vouched for."""

    async def play() -> None:
        backend = ScriptedBackend(b"x", refuses=BROKEN)
        async with executing(backend) as bench:
            breaker = bench.executor.breaker
            asked: list[tuple[Key, float]] = []
            breaker.on_open = lambda route, pause_s: asked.append((route.key, pause_s))
            await fail(bench)
            assert asked == [(("scripted", "m"), FIRST_PAUSE_S)]
            backend.refuses = None
            route = Route(backend, backend.models[0])

            breaker.present = {ScriptedBackend()}
            breaker.vouch(route)
            assert breaker.open_keys == {route.key}
            breaker.present = None
            breaker.vouch(route)
            bench.submit(job("next"))
            await bench.settle()

        assert bench.line.codes()[FAILURES:] == ["done"]

    run_virtually(play())


def test_what_a_replaced_engine_does_opens_no_circuit_of_its_successor() -> None:
    """The operator moves an engine, and stops the old one with jobs on it: the new one has the same name."""

    async def play() -> None:
        gate = asyncio.Event()
        old, new = ScriptedBackend(gate, BROKEN, name="a"), ScriptedBackend(name="a")
        async with executing(old) as bench:
            bench.submit(*(job(f"j{number}") for number in range(FAILURES)))
            await bench.settle()
            bench.executor.breaker.present = {new}
            gate.set()
            await bench.settle()

            assert bench.line.codes() == ["backend_error"] * FAILURES
            assert bench.executor.breaker.open_keys == frozenset()

    run_virtually(play())


def test_what_a_replaced_engine_does_closes_no_circuit_of_its_successor() -> None:
    """A job that has ended well there says no more of the new one than one that failed."""

    async def play() -> None:
        gate = asyncio.Event()
        old, new = ScriptedBackend(gate, b"x", name="a"), ScriptedBackend(name="a")
        async with executing(old) as bench:
            bench.submit(job())
            await bench.settle()
            breaker = bench.executor.breaker
            breaker.present = {new}
            for _ in range(FAILURES):
                breaker.failed(Route(new, new.models[0]), BROKEN)
            gate.set()
            await bench.settle()

            assert bench.line.codes() == ["done"]
            assert breaker.open_keys == {("a", "m")}

    run_virtually(play())


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_an_engine_that_says_nothing_is_left_alone_whoever_loses_patience_first(way: str) -> None:
    """Least loaded as it is, it would else get job after job for ever (field note 73)."""

    async def play() -> None:
        stuck = ScriptedBackend(asyncio.Event(), name="stuck", priority=1)
        sound = ScriptedBackend(b"x", name="sound", priority=2)
        async with executing(stuck, sound) as bench:
            for number in range(FAILURES):
                bench.submit(job(f"j{number}", deadline_ms=60_000 if way == "deadline" else None))
                await asyncio.sleep(61)
                bench.executor.cancel(f"j{number}")
                await bench.settle()
            bench.submit(job("next"))
            await bench.settle()

        assert bench.line.codes()[-1] == "done"
        assert (len(stuck.calls), len(sound.calls)) == (FAILURES, 1)

    run_virtually(play())


@pytest.mark.parametrize("steps", [(), (b"x",)], ids=["silent", "slow"])
def test_clients_that_leave_are_no_fault_of_the_engine(steps: tuple[bytes, ...]) -> None:
    """Soon, or amid an answer: of a thousand of them it is used like before."""

    async def play() -> None:
        backend = ScriptedBackend(*steps, asyncio.Event())
        async with executing(backend) as bench:
            for number in range(2 * FAILURES):
                bench.submit(job(f"j{number}"))
                await asyncio.sleep(60 if steps else 5)
                bench.executor.cancel(f"j{number}")
                await bench.settle()

            assert bench.executor.breaker.open_keys == frozenset()

    run_virtually(play())
