"""Every job that is received gets one outcome and gives its slot back once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.base import BackendUnreachable, ModelNotFound, StreamTruncated, Usage
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import BadFrame, ErrorCode, Stage
from provider_agent.protocol.frames import Job, JobDone, JobError, Tokens
from provider_agent.transport.channel import ChannelClosed
from tests.fakes.backends import BackendThatClosesLate, ScriptedBackend
from tests.fakes.outlets import FullOutlet, OutletThatGivesUp, RecordingOutlet


def job(job_id: str = "j", **fields: Any) -> Job:
    raw = {"job_id": job_id, "model_id": "m", "request": msgspec.Raw(b'{"messages":[]}')} | fields
    return Job(**raw)


def table(*backends: ScriptedBackend) -> RoutingTable:
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    return RoutingTable(Catalog(entries), Policy())


class Bench:
    """An executor with what it told the process around it."""

    def __init__(self, executor: Executor, ended: list[EndedJob], dead: list[str]) -> None:
        self.executor = executor
        self.ended = ended
        self.dead = dead

    async def settle(self) -> None:
        """Let every job that can still move do so."""
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def executing(*backends: ScriptedBackend, **limits: float) -> AsyncIterator[Bench]:
    ended: list[EndedJob] = []
    dead: list[str] = []
    executor = Executor(
        table(*backends),
        ExecutorLimits(**limits),  # type: ignore[arg-type]
        clock=asyncio.get_running_loop().time,
        on_end=ended.append,
    )
    executor.on_unreachable = dead.append
    async with asyncio.timeout(10), executor:
        yield Bench(executor, ended, dead)


def codes_of(outlet: RecordingOutlet) -> Sequence[str]:
    return outlet.codes()


async def test_a_job_is_started_relayed_and_done() -> None:
    """The ordinary case: one job from submit to its outcome."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"Hel", b"lo")) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert outlet.body("j") == b"Hello"
    assert [started.upstream_model for started in outlet.started] == ["m"]
    assert [type(outcome) for outcome in outlet.outcomes] == [JobDone]
    assert outlet.outcomes[0].tokens == Tokens.of(3, 5)
    assert [ended.code for ended in bench.ended] == [None]
    assert bench.executor.running == ()


async def test_a_job_beyond_capacity_is_refused_at_once() -> None:
    """Two run, three are refused before anything else happens (I5)."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate), max_concurrent=2) as bench:
        for number in range(5):
            bench.executor.submit(job(f"j{number}"), outlet)
        assert codes_of(outlet) == ["out_of_capacity"] * 3

        gate.set()
        await bench.settle()
        assert codes_of(outlet) == ["out_of_capacity"] * 3 + ["done"] * 2


async def test_an_unknown_model_at_full_capacity_is_told_as_unknown() -> None:
    """Permanent reasons before passing ones (field note 9)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1) as bench:
        bench.executor.submit(job("a"), outlet)
        bench.executor.submit(job("b", model_id="ghost"), outlet)
        bench.executor.submit(job("c", endpoint="/v1/rerank"), outlet)

        assert codes_of(outlet) == ["model_not_loaded", "unsupported_endpoint"]


async def test_a_request_over_the_limit_is_refused_as_that_jobs_own_fault() -> None:
    """One oversized job ends neither the session nor any other job (field note 19)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x"), max_job_bytes=20) as bench:
        bench.executor.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')), outlet)
        bench.executor.submit(job("small"), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["request_too_large", "done"]


async def test_too_large_goes_before_draining_and_draining_before_full() -> None:
    """The order of I7, to its end."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1, max_job_bytes=20) as bench:
        bench.executor.submit(job("runs"), outlet)
        bench.executor.draining = True
        bench.executor.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')), outlet)
        bench.executor.submit(job("late"), outlet)

        assert codes_of(outlet) == ["request_too_large", "draining"]


async def test_the_operators_tokens_per_minute_are_enforced() -> None:
    """A full minute refuses new jobs and says when to come back."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x", usage=Usage(3, 5)), max_tokens_per_minute=8) as bench:
        bench.executor.submit(job("a"), outlet)
        await bench.settle()
        bench.executor.submit(job("b"), outlet)

    assert codes_of(outlet) == ["done", "rate_limited"]
    refused = outlet.outcomes[1]
    assert isinstance(refused, JobError)
    assert 59_000 < (refused.retry_after_ms or 0) <= 60_000


async def test_a_refused_job_takes_no_slot() -> None:
    """Refusals leave nothing behind, and the same id may come again."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate), max_concurrent=1) as bench:
        bench.executor.submit(job("a"), outlet)
        bench.executor.submit(job("b"), outlet)
        gate.set()
        await bench.settle()
        bench.executor.submit(job("b"), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["out_of_capacity", "done", "done"]


async def test_a_malformed_job_is_answered() -> None:
    """Nobody waits for their own timeout (field note 16)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend()) as bench:
        bad = BadFrame("Expected `int` >= 1", frame_type="job", field="deadline_ms", job_id="j")
        bench.executor.refuse_malformed(bad, outlet)

    (outcome,) = outlet.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.stage) == ("bad_request", Stage.REFUSED)
    assert "deadline_ms" in outcome.message


async def test_the_same_job_again_while_it_runs_changes_nothing() -> None:
    """Two generations never interleave under one id (field note 4)."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    backend = ScriptedBackend(b"x", gate)
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        bench.executor.submit(job(), outlet)
        bench.executor.submit(job(attempt=2), outlet)
        await bench.settle()
        assert codes_of(outlet) == ["duplicate_job"]

        gate.set()
        await bench.settle()
    assert codes_of(outlet) == ["duplicate_job", "done"]
    assert len(backend.calls) == 1


async def test_a_repeated_dispatch_after_the_end_gets_the_known_outcome() -> None:
    """I4: the same attempt is answered from memory; a higher one runs."""
    outlet = RecordingOutlet()
    backend = ScriptedBackend(b"x")
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        bench.executor.submit(job(), outlet)
        await bench.settle()
        assert len(backend.calls) == 1

        bench.executor.submit(job(attempt=2), outlet)
        await bench.settle()
    assert codes_of(outlet) == ["done", "done", "done"]
    assert len(backend.calls) == 2


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
    assert codes_of(outlet) == ["cancelled"]
    assert backend.open_connections == 0


async def test_a_job_cancelled_before_its_first_step_has_its_outcome() -> None:
    """A fast cancel leaks neither slot nor outcome (field notes 3, 22)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x"), max_concurrent=1) as bench:
        bench.executor.submit(job(), outlet)
        bench.executor.cancel("j", outlet)
        await bench.settle()

    assert codes_of(outlet) == ["cancelled"]
    assert bench.executor.running == ()


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
    assert codes_of(outlet) == ["done", "unknown_job"]
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

    assert codes_of(outlet) == ["cancelled"]


async def test_a_cancel_of_an_unknown_job_is_answered() -> None:
    """I6: a coordinator learns that there is nothing to cancel."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend()) as bench:
        bench.executor.cancel("ghost", outlet)

    assert codes_of(outlet) == ["unknown_job"]


async def test_a_cancel_reaches_an_outcome_that_has_not_left() -> None:
    """The job is over, but its chunks still wait: they are dropped and the outcome says so."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend()) as bench:
        outlet.unsent["j"] = JobDone(job_id="j", tokens=Tokens.of(3, 5), duration_ms=1)
        bench.executor.cancel("j", outlet)

    assert codes_of(outlet) == ["cancelled"]


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
        assert codes_of(outlet) == ["out_of_capacity"]

        backend.closed.set()
        await bench.settle()
        bench.executor.submit(job("c"), outlet)
        assert codes_of(outlet) == ["out_of_capacity", "cancelled"]
        assert backend.most_open == 1


async def test_a_crash_in_one_job_ends_that_job_and_no_other() -> None:
    """The job boundary: an outcome, the slot back, the rest untouched (field note 7)."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    broken, sound = ScriptedBackend(KeyError("x"), models=("a",)), ScriptedBackend(gate, b"y", models=("b",))
    broken.name = "broken"
    async with executing(broken, sound) as bench:
        bench.executor.submit(job("sound", model_id="b"), outlet)
        bench.executor.submit(job("broken", model_id="a"), outlet)
        await bench.settle()
        assert codes_of(outlet) == ["internal"]

        gate.set()
        await bench.settle()
    assert codes_of(outlet) == ["internal", "done"]


async def test_an_engine_error_is_told_with_its_code_and_stage() -> None:
    """After the first byte the stage says so, and the usage is kept (field note 14)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x", StreamTruncated("cut"), usage=Usage(3, 4))) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    (outcome,) = outlet.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.stage, outcome.tokens_emitted) == (
        "stream_truncated",
        Stage.STREAMING,
        4,
    )


async def test_a_job_goes_on_to_the_next_backend_when_one_is_unreachable() -> None:
    """The first dies and the jobs go to the second; discovery is told (field note 25)."""
    outlet = RecordingOutlet()
    dead = ScriptedBackend(name="dead", priority=1, refuses=BackendUnreachable("no"))
    alive = ScriptedBackend(b"x", name="alive", priority=2)
    async with executing(dead, alive) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["done"]
    assert [started.backend for started in outlet.started] == ["alive"]
    assert bench.dead == ["dead"]


async def test_the_last_backends_failure_is_the_jobs() -> None:
    """Nothing is left to try."""
    outlet = RecordingOutlet()
    first = ScriptedBackend(name="a", priority=1, refuses=BackendUnreachable("no"))
    second = ScriptedBackend(name="b", priority=2, refuses=ModelNotFound("gone"))
    async with executing(first, second) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["model_not_loaded"]


async def test_the_deadline_ends_a_hung_job() -> None:
    """A hung engine does not hold a slot for ever (field note 17)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.executor.submit(job(deadline_ms=20), outlet)
        (running,) = bench.executor.running
        assert running.task is not None
        await asyncio.wait([running.task])
        await bench.settle()

    assert codes_of(outlet) == ["backend_timeout"]


async def test_a_coordinator_that_takes_no_bytes_ends_the_job_as_such() -> None:
    """It is the coordinator's doing, and the outcome says so (field note 11)."""
    outlet = OutletThatGivesUp()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["backpressure_timeout"]


async def test_a_job_that_waits_for_room_leaves_the_others_alone() -> None:
    """Bytes wait; decisions and other jobs do not (field note 11)."""
    stuck, free = FullOutlet(), RecordingOutlet()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job("stuck"), stuck)
        bench.executor.submit(job("free"), free)
        await bench.settle()
        assert codes_of(free) == ["done"]
        assert codes_of(stuck) == []

        stuck.room.set()
        await bench.settle()
    assert codes_of(stuck) == ["done"]


async def test_a_lost_session_ends_its_jobs_and_no_others() -> None:
    """Until sessions can be resumed, work that nobody receives is stopped at once (field note 10)."""
    lost, kept = RecordingOutlet(), RecordingOutlet()
    gate = asyncio.Event()
    backend = ScriptedBackend(gate)
    async with executing(backend) as bench:
        bench.executor.submit(job("a"), lost)
        bench.executor.submit(job("b"), kept)
        await bench.settle()
        bench.executor.stop_all(ErrorCode.SESSION_LOST, lost)
        await bench.settle()
        assert backend.open_connections == 1

        gate.set()
        await bench.settle()
    assert (codes_of(lost), codes_of(kept)) == (["session_lost"], ["done"])


class OutletOfAClosedChannel(RecordingOutlet):
    """The session went away while the engine worked."""

    async def relay(self, job_id: str, data: bytes) -> None:
        raise ChannelClosed(None, "the connection was lost")


async def test_bytes_for_a_closed_channel_end_the_job_as_session_lost() -> None:
    """The first byte after the loss is where the job notices by itself."""
    outlet = OutletOfAClosedChannel()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["session_lost"]


async def test_a_drain_lets_running_jobs_finish() -> None:
    """New jobs are refused, running ones end as they would have (field notes 44, 46)."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate, b"x")) as bench:
        bench.executor.submit(job("a"), outlet)
        draining = asyncio.create_task(bench.executor.drain(grace_s=5))
        await bench.settle()
        bench.executor.submit(job("b"), outlet)
        gate.set()
        await draining

    assert codes_of(outlet) == ["draining", "done"]


async def test_a_drain_whose_time_is_over_ends_the_rest_honestly() -> None:
    """What could not finish is told as agent_shutdown, not dropped."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        await bench.executor.drain(grace_s=0)

    assert codes_of(outlet) == ["agent_shutdown"]


async def test_leaving_the_executor_ends_what_still_runs() -> None:
    """No task outlives its parent, and each job still has its outcome."""
    outlet = RecordingOutlet()
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert codes_of(outlet) == ["agent_shutdown"]
    assert backend.open_connections == 0


@pytest.mark.parametrize("field", ["first_byte_timeout_ms", "idle_timeout_ms"])
async def test_a_job_may_bring_its_own_time_limits(field: str) -> None:
    """The job's limits go before the operator's."""
    backend = ScriptedBackend(b"x")
    async with executing(backend, first_byte_timeout_s=9.0, idle_timeout_s=9.0) as bench:
        bench.executor.submit(job("j", **{field: 1500}), RecordingOutlet())
        await bench.settle()

    (call,) = backend.calls
    wanted = {"first_byte_timeout_ms": 9.0, "idle_timeout_ms": 9.0} | {field: 1.5}
    assert (call.first_byte_timeout_s, call.idle_timeout_s) == tuple(wanted.values())
