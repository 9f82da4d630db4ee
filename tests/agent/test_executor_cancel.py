"""A cancel, wherever it meets its job: one outcome, no chunk behind it, the slot free when the engine is."""

import asyncio

import pytest

from provider_agent.protocol.errors import ErrorCode
from tests.fakes.backends import (
    BackendThatBreaksWhenLeft,
    BackendThatClosesLate,
    BackendThatIgnoresCancel,
    ScriptedBackend,
)
from tests.fakes.executors import executing, job
from tests.fakes.outlets import RecordingOutlet


async def test_a_cancelled_job_sends_its_outcome_and_nothing_else() -> None:
    """No chunk leaves after the cancel was read (field note 5, I2, I6)."""
    outlet = RecordingOutlet()
    backend = ScriptedBackend(b"x", asyncio.Event(), b"y")
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        bench.executor.cancel("j", outlet)
        await bench.settle()

    assert outlet.body("j") == b"x"
    assert outlet.discarded == ["j"]
    assert outlet.codes() == ["cancelled"]
    assert backend.open_connections == 0


async def test_a_job_cancelled_before_its_first_step_has_its_outcome() -> None:
    """A fast cancel leaks neither slot nor outcome (field notes 3, 22)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x"), max_concurrent=1) as bench:
        bench.executor.submit(job(), outlet)
        bench.executor.cancel("j", outlet)
        await bench.settle()

    assert outlet.codes() == ["cancelled"]
    assert bench.executor.running == ()


@pytest.mark.parametrize("kind", [BackendThatIgnoresCancel, BackendThatBreaksWhenLeft])
async def test_a_cancelled_job_is_told_as_cancelled_whatever_its_engine_makes_of_it(
    kind: type[ScriptedBackend],
) -> None:
    """A normal end after a cancel is no success, and an error no fault of the engine (field note 22)."""
    outlet = RecordingOutlet()
    backend = kind(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        bench.executor.cancel("j", outlet)
        await bench.settle()

    assert outlet.codes() == ["cancelled"]
    assert [ended.code for ended in bench.ended] == [ErrorCode.CANCELLED]
    assert backend.open_connections == 0


async def test_a_cancel_that_meets_the_end_of_its_job_frees_the_slot_once() -> None:
    """The job's task is over, its end not yet noted, and then the cancel comes (field note 2)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job(), outlet)
        (running,) = bench.executor.running
        assert running.task is not None
        running.task.add_done_callback(lambda _: bench.executor.cancel("j", outlet))
        await bench.settle()

    assert len(outlet.outcomes) == 2
    assert outlet.codes() == ["done", "unknown_job"]
    assert bench.executor.running == ()


async def test_a_second_cancel_changes_nothing() -> None:
    """One cancel, one outcome, however often it is said."""
    outlet = RecordingOutlet()
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        bench.executor.cancel("j", outlet)
        bench.executor.cancel("j", outlet)
        await bench.settle()
        backend.closed.set()
        await bench.settle()

    assert outlet.codes() == ["cancelled"]


async def test_a_cancel_of_an_unknown_job_is_answered() -> None:
    """I6: a coordinator learns that there is nothing to cancel."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend()) as bench:
        bench.executor.cancel("ghost", outlet)

    assert outlet.codes() == ["unknown_job"]


async def test_a_cancel_reaches_an_outcome_that_has_not_left() -> None:
    """The job is over, but its chunks still wait: they are dropped and the outcome says so."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend()) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        outlet.unsent["j"] = outlet.take_back()
        bench.executor.cancel("j", outlet)
        bench.executor.submit(job(), outlet)

    assert outlet.codes() == ["cancelled", "cancelled"]


async def test_the_slot_is_free_only_when_the_engines_connection_is_closed() -> None:
    """No over-admission on the GPU (field note 6, I3)."""
    outlet = RecordingOutlet()
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend, max_concurrent=1) as bench:
        bench.executor.submit(job("a"), outlet)
        await bench.settle()
        bench.executor.cancel("a", outlet)
        await bench.settle()
        bench.executor.submit(job("b"), outlet)
        assert outlet.codes() == ["out_of_capacity"]

        backend.closed.set()
        await bench.settle()
        bench.executor.submit(job("c"), outlet)
        assert outlet.codes() == ["out_of_capacity", "cancelled"]
        assert backend.most_open == 1
