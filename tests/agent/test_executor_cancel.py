"""A cancel, wherever it meets its job: one outcome, no chunk behind it, the slot free when the engine is."""

import asyncio

import pytest

from provider_agent.backends.base import Usage
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import JobError
from tests.fakes.backends import (
    BackendThatBreaksWhenLeft,
    BackendThatClosesLate,
    BackendThatIgnoresCancel,
    ScriptedBackend,
)
from tests.fakes.executors import executing, job
from tests.fakes.outlets import FullLine, Line


async def test_a_cancelled_job_sends_its_outcome_and_nothing_else() -> None:
    """No chunk leaves after the cancel was read (field note 5, I2, I6)."""
    backend = ScriptedBackend(b"x", asyncio.Event(), b"y")
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        await bench.settle()

    assert bench.line.body("j") == b"x"
    assert bench.line.codes() == ["cancelled"]
    assert backend.open_connections == 0


async def test_a_job_cancelled_before_its_first_step_has_its_outcome() -> None:
    """A fast cancel leaks neither slot nor outcome (field notes 3, 22)."""
    async with executing(ScriptedBackend(b"x"), max_concurrent=1) as bench:
        bench.submit(job())
        bench.executor.cancel("j")
        await bench.settle()

    assert bench.line.codes() == ["cancelled"]
    assert bench.executor.running == ()


@pytest.mark.parametrize("kind", [BackendThatIgnoresCancel, BackendThatBreaksWhenLeft])
async def test_a_cancelled_job_is_told_as_cancelled_whatever_its_engine_makes_of_it(
    kind: type[ScriptedBackend],
) -> None:
    """A normal end after a cancel is no success, and an error no fault of the engine (field note 22)."""
    backend = kind(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        await bench.settle()

    assert bench.line.codes() == ["cancelled"]
    assert [ended.code for ended in bench.ended] == [ErrorCode.CANCELLED]
    assert backend.open_connections == 0


async def test_a_cancel_that_meets_the_end_of_its_job_frees_the_slot_once() -> None:
    """The job's task is over, its outcome has not left, and then the cancel comes (field note 2)."""
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.submit(job())
        (running,) = bench.executor.running
        assert running.task is not None
        running.task.add_done_callback(lambda _: bench.executor.cancel("j"))
        await bench.settle()

    assert bench.line.codes() == ["cancelled"]
    assert bench.executor.running == ()


async def test_a_second_cancel_changes_nothing() -> None:
    """One cancel, one outcome, however often it is said."""
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        bench.executor.cancel("j")
        await bench.settle()
        backend.closed.set()
        await bench.settle()

    assert bench.line.codes() == ["cancelled"]


async def test_a_cancel_of_an_unknown_job_is_answered() -> None:
    """I6: a coordinator learns that there is nothing to cancel."""
    async with executing(ScriptedBackend()) as bench:
        bench.executor.cancel("ghost")

    assert bench.line.codes() == ["unknown_job"]


async def test_a_cancel_reaches_an_outcome_that_has_not_left() -> None:
    """The socket is full: the bytes that wait are dropped, and the outcome says so, now and later."""
    line = FullLine()
    async with executing(ScriptedBackend(b"x", usage=Usage(3, 5)), line=line) as bench:
        bench.submit(job("first"), job("j"))
        await bench.settle()
        bench.executor.cancel("j")
        line.release()
        await bench.settle()
        bench.submit(job("j"))
        await bench.settle()

    cancelled, repeated = (outcome for outcome in line.outcomes if outcome.job_id == "j")
    assert isinstance(cancelled, JobError)
    assert (cancelled.error_code, cancelled.tokens_emitted) == ("cancelled", 5)
    assert repeated == cancelled


async def test_a_cancel_that_crosses_the_outcome_is_told_that_nothing_runs() -> None:
    """The outcome is on its way: one word more says that there was nothing to stop."""
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")

    assert bench.line.codes() == ["done", "unknown_job"]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_job_that_is_dispatched_again_after_its_cancel_gets_an_answer(protocol: int) -> None:
    """Where a cancel ends in silence (protocol 2), nobody may wait for what will not be said (I1, I6)."""
    backend = BackendThatClosesLate(asyncio.Event(), b"x")
    async with executing(backend, line=Line(protocol=protocol)) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        bench.submit(job(attempt=1 if protocol == 2 else 2))
        assert bench.line.codes() == ["internal" if protocol == 2 else "duplicate_job"]

        backend.closed.set()
        await bench.settle()
        backend.steps = (b"x",)
        bench.submit(job(attempt=1 if protocol == 2 else 2))
        await bench.settle()

    assert bench.line.codes()[-1] == "done"
    assert bench.line.body("j") == b"x"


async def test_the_slot_is_free_only_when_the_engines_connection_is_closed() -> None:
    """No over-admission on the GPU (field note 6, I3)."""
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend, max_concurrent=1) as bench:
        bench.submit(job("a"))
        await bench.settle()
        bench.executor.cancel("a")
        await bench.settle()
        bench.submit(job("b"))
        assert bench.line.codes() == ["out_of_capacity"]

        backend.closed.set()
        await bench.settle()
        bench.submit(job("c"))
        assert bench.line.codes() == ["out_of_capacity", "cancelled"]
        assert backend.most_open == 1
