"""A job that moves from engine to engine: whither, how often, and what may happen between two of them."""

import asyncio

import pytest

from provider_agent.agent.failover import MOST_BROKEN
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import AuthRejected, BackendFailed, BackendModel, BackendUnreachable
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import JobDone
from tests.fakes.backends import CHAT, BackendThatBreaksWhenLeft, BackendThatClosesLate, ScriptedBackend
from tests.fakes.executors import executing, job
from tests.fakes.logs import LogLines
from tests.simulation.loop import run_virtually

BROKEN = BackendFailed("it failed", http_status=500)


def table_of(*backends: ScriptedBackend, policy: Policy | None = None) -> RoutingTable:
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    return RoutingTable(Catalog(entries), policy or Policy())


async def test_a_cancelled_job_whose_connection_breaks_meanwhile_moves_nowhere() -> None:
    """The error comes of our leaving: nobody wants the answer, and the engine is not to blame."""
    first = BackendThatBreaksWhenLeft(asyncio.Event(), name="a", priority=1)
    second = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, second) as bench:
        for number in range(5):
            bench.submit(job(f"j{number}"))
            await bench.settle()
            bench.executor.cancel(f"j{number}")
            await bench.settle()

        assert bench.line.codes() == ["cancelled"] * 5
        assert (second.calls, bench.executor.breaker.open_keys) == ([], frozenset())


def test_a_job_out_of_time_whose_connection_breaks_meanwhile_moves_nowhere() -> None:
    """Else it would go on at the next engine without any deadline (field note 17)."""

    async def play() -> None:
        first = BackendThatBreaksWhenLeft(asyncio.Event(), name="a", priority=1)
        second = ScriptedBackend(asyncio.Event(), name="b", priority=2)
        async with executing(first, second) as bench:
            bench.submit(job(deadline_ms=1000))
            await asyncio.sleep(2)

            assert bench.line.codes() == ["backend_timeout"]
            assert second.calls == []

    run_virtually(play())


async def test_a_job_cancelled_between_two_engines_asks_no_second_one() -> None:
    """It holds its slot until the first connection is closed, and has one outcome (I3)."""
    first = BackendThatClosesLate(BROKEN, name="a", priority=1)
    second = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        bench.executor.cancel("j")
        first.closed.set()
        await bench.settle()

        assert bench.line.codes() == ["cancelled"]
        assert (first.open_connections, second.calls, bench.executor.running) == (0, [], ())


def test_the_deadline_holds_for_all_engines_together() -> None:
    """What the first one used up is not given again (field note 17)."""

    async def play() -> None:
        gate = asyncio.Event()
        first = ScriptedBackend(gate, BROKEN, name="a", priority=1)
        second = ScriptedBackend(asyncio.Event(), name="b", priority=2)
        async with executing(first, second) as bench:
            bench.submit(job(deadline_ms=20_000))
            await asyncio.sleep(15)
            gate.set()
            await asyncio.sleep(4.9)
            assert (bench.line.codes(), len(second.calls)) == ([], 1)
            await asyncio.sleep(0.2)

            assert bench.line.codes() == ["backend_timeout"]

    run_virtually(play())


async def test_a_job_moves_to_no_engine_that_the_operator_removed_meanwhile() -> None:
    """It was one of the choices when the job came; its key may have been withdrawn since."""
    gate = asyncio.Event()
    first = ScriptedBackend(gate, BROKEN, name="a", priority=1)
    removed = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, removed) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.table = table_of(first)
        gate.set()
        await bench.settle()

        assert bench.line.codes() == ["backend_error"]
        assert removed.calls == []


async def test_a_job_moves_to_an_engine_that_came_after_it() -> None:
    """Also to the successor of one that was a choice, as the settings have it now."""
    gate = asyncio.Event()
    first = ScriptedBackend(gate, BROKEN, name="a", priority=1)
    old, new = ScriptedBackend(b"old", name="b"), ScriptedBackend(b"new", name="b")
    async with executing(first, old) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.table = table_of(first, new)
        gate.set()
        await bench.settle()

        assert (bench.line.codes(), bench.line.body("j")) == (["done"], b"new")
        assert old.calls == []


async def test_a_job_does_not_move_to_a_model_that_is_hidden_by_now() -> None:
    """What the operator does not expose any more begins nowhere anew (field note 24)."""
    gate = asyncio.Event()
    first = ScriptedBackend(gate, BROKEN, name="a", priority=1)
    second = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.table = table_of(first, second, policy=Policy(hide=("m",)))
        gate.set()
        await bench.settle()

        assert bench.line.codes() == ["backend_error"]
        assert second.calls == []


async def test_no_engine_is_asked_twice_by_a_job() -> None:
    """Not even one that comes back while the job tries the others."""
    gate = asyncio.Event()
    first = ScriptedBackend(name="a", priority=1, refuses=BackendUnreachable("down"))
    second = ScriptedBackend(gate, BROKEN, name="b", priority=2)
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.table = table_of(first, second)
        gate.set()
        await bench.settle()

        assert bench.line.codes() == ["backend_error"]
        assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_an_engine_that_was_full_gets_the_job_once_it_has_room() -> None:
    """A later look finds what the one before did not."""
    on_c, on_b = asyncio.Event(), asyncio.Event()
    a = ScriptedBackend(name="a", priority=1, refuses=BackendUnreachable("down"))
    b = ScriptedBackend(on_b, BROKEN, name="b", priority=2)
    c = ScriptedBackend(on_c, b"x", name="c", priority=1, max_concurrent=1)
    async with executing(c, a, b) as bench:
        bench.submit(job("on c"), job("from a to b to c"))
        await bench.settle()
        on_c.set()
        await bench.settle()
        on_b.set()
        await bench.settle()

        assert bench.line.codes() == ["done", "done"]
        assert len(c.calls) == 2


async def test_a_job_moves_to_the_best_of_the_others() -> None:
    """By priority and load of that moment."""
    gate = asyncio.Event()
    first = ScriptedBackend(name="first", priority=1, refuses=BROKEN)
    idle, busy = (
        ScriptedBackend(b"x", name="idle", priority=2),
        ScriptedBackend(gate, name="busy", priority=2),
    )
    last = ScriptedBackend(b"x", name="last", priority=3)
    busy.models = (*busy.models, BackendModel("other", frozenset({CHAT})))
    async with executing(last, busy, idle, first) as bench:
        bench.submit(job("elsewhere", model_id="other"))
        bench.submit(job())
        await bench.settle()

        assert [len(engine.calls) for engine in (first, idle, busy, last)] == [1, 1, 1, 0]
        gate.set()
        await bench.settle()


def test_the_engines_time_is_that_of_the_one_that_answered() -> None:
    """And the job's that of all (field note 45)."""

    async def play() -> None:
        soon, late = asyncio.Event(), asyncio.Event()
        first = ScriptedBackend(soon, BROKEN, name="a", priority=1)
        second = ScriptedBackend(late, b"x", name="b", priority=2)
        async with executing(first, second) as bench:
            bench.submit(job())
            await asyncio.sleep(3)
            soon.set()
            await asyncio.sleep(4)
            late.set()
            await bench.settle()

        (done,) = bench.line.outcomes
        assert isinstance(done, JobDone)
        assert done.timings is not None
        assert (done.timings.backend_ms, done.timings.first_byte_ms, done.duration_ms) == (4000, 7000, 7000)

    run_virtually(play())


async def test_what_costs_money_is_asked_only_while_the_own_engines_have_no_room() -> None:
    """Full or away is the same; one that is free goes first, also when a job moves (field note 23)."""
    gate = asyncio.Event()
    paid = ScriptedBackend(b"x", name="paid", priority=1 << 48)
    away = ScriptedBackend(name="away", priority=1, refuses=BackendUnreachable("down"))
    own = ScriptedBackend(gate, b"x", name="own", priority=2, max_concurrent=1)
    async with executing(paid, away, own) as bench:
        bench.submit(job("moves to own"))
        await bench.settle()
        bench.submit(job("own is full"))
        await bench.settle()
        gate.set()
        await bench.settle()
        bench.submit(job("own is free"))
        await bench.settle()

        assert bench.line.codes() == ["done"] * 3
        assert (len(own.calls), len(paid.calls)) == (2, 1)


async def test_a_request_that_engine_after_engine_dies_of_is_risked_on_few() -> None:
    """One client must not kill them all with one request."""
    engines = [ScriptedBackend(name=f"e{number}", priority=number, refuses=BROKEN) for number in range(6)]
    async with executing(*engines) as bench:
        bench.submit(job())
        await bench.settle()

        assert bench.line.codes() == ["backend_error"]
        assert sum(len(engine.calls) for engine in engines) == MOST_BROKEN


@pytest.mark.parametrize("trouble", [BackendUnreachable("down"), AuthRejected("key")])
async def test_engines_that_do_not_even_take_the_request_are_all_asked(trouble: Exception) -> None:
    """It cannot be what they have died of."""
    engines = [ScriptedBackend(name=f"e{number}", priority=number, refuses=trouble) for number in range(6)]
    last = ScriptedBackend(b"x", name="last", priority=9)
    async with executing(*engines, last) as bench:
        bench.submit(job())
        await bench.settle()

        assert bench.line.codes() == ["done"]


async def test_a_move_says_whence_whither_and_why() -> None:
    """It is all that an operator sees of an engine whose jobs others save."""
    first = ScriptedBackend(name="a", priority=1, refuses=BROKEN)
    second = ScriptedBackend(b"x", name="b", priority=2)
    logs = LogLines()
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()

    (moved,) = logs.named("job_moved")
    told = {
        "job_id": "j",
        "model_id": "m",
        "backend": "a",
        "to": "b",
        "code": "backend_error",
        "http_status": 500,
    }
    assert told.items() <= moved.items()
    assert [ended.moved_from for ended in bench.ended] == [(("a", ErrorCode.BACKEND_ERROR),)]


async def test_a_moved_job_is_counted_once_and_for_the_engine_that_answered() -> None:
    """Whoever adds up the metrics gets as many jobs as there were (field note 45)."""
    first = ScriptedBackend(name="a", priority=1, refuses=BROKEN)
    second = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, second) as bench:
        bench.submit(job())
        assert (bench.executor.active_on("a"), bench.executor.active_on("b")) == (1, 0)
        await bench.settle()

        assert [(ended.backend, ended.code) for ended in bench.ended] == [("b", None)]
