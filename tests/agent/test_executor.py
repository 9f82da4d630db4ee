"""Every job that is received gets one outcome and gives its slot back once."""

import asyncio

import msgspec

from provider_agent.backends.base import StreamTruncated, Usage
from provider_agent.protocol.errors import BadFrame, ErrorCode, Stage
from provider_agent.protocol.frames import JobDone, JobError, Tokens
from tests.fakes.backends import ScriptedBackend
from tests.fakes.executors import executing, job
from tests.fakes.outlets import FullOutlet, OutletOfAClosedChannel, OutletThatGivesUp, RecordingOutlet


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
        assert outlet.codes() == ["out_of_capacity"] * 3

        gate.set()
        await bench.settle()
        assert outlet.codes() == ["out_of_capacity"] * 3 + ["done"] * 2


async def test_an_unknown_model_at_full_capacity_is_told_as_unknown() -> None:
    """Permanent reasons before passing ones (field note 9)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1) as bench:
        bench.executor.submit(job("a"), outlet)
        bench.executor.submit(job("b", model_id="ghost"), outlet)
        bench.executor.submit(job("c", endpoint="/v1/rerank"), outlet)

        assert outlet.codes() == ["model_not_loaded", "unsupported_endpoint"]


async def test_a_request_over_the_limit_is_refused_as_that_jobs_own_fault() -> None:
    """One oversized job ends neither the session nor any other job (field note 19)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x"), max_job_bytes=20) as bench:
        bench.executor.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')), outlet)
        bench.executor.submit(job("small"), outlet)
        await bench.settle()

    assert outlet.codes() == ["request_too_large", "done"]


async def test_too_large_goes_before_draining_and_draining_before_full() -> None:
    """The order of I7, to its end."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1, max_job_bytes=20) as bench:
        bench.executor.submit(job("runs"), outlet)
        bench.executor.draining = True
        bench.executor.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')), outlet)
        bench.executor.submit(job("late"), outlet)

        assert outlet.codes() == ["request_too_large", "draining"]


async def test_the_operators_tokens_per_minute_are_enforced() -> None:
    """A full minute refuses new jobs and says when to come back."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(b"x", usage=Usage(3, 5)), max_tokens_per_minute=8) as bench:
        bench.executor.submit(job("a"), outlet)
        await bench.settle()
        bench.executor.submit(job("b"), outlet)

    assert outlet.codes() == ["done", "rate_limited"]
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

    assert outlet.codes() == ["out_of_capacity", "done", "done"]


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


async def test_a_job_that_runs_has_no_second_outcome_from_a_malformed_repetition() -> None:
    """The id is taken: its outcome will come, and only that (I1, I4)."""
    outlet = RecordingOutlet()
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate, b"x")) as bench:
        bench.executor.submit(job(), outlet)
        bad = BadFrame("Expected `int` >= 1", frame_type="job", field="attempt", job_id="j")
        bench.executor.refuse_malformed(bad, outlet)
        gate.set()
        await bench.settle()

    assert outlet.codes() == ["done"]


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
        assert outlet.codes() == ["duplicate_job"]

        gate.set()
        await bench.settle()
    assert outlet.codes() == ["duplicate_job", "done"]
    assert len(backend.calls) == 1


async def test_a_repeated_dispatch_after_the_end_gets_the_known_outcome() -> None:
    """I4: the same attempt is answered from memory, with the count of what it lacks; a higher one runs."""
    outlet = RecordingOutlet()
    backend = ScriptedBackend(b"x", b"yz")
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        bench.executor.submit(job(), outlet)
        await bench.settle()
        assert len(backend.calls) == 1
        repeated = outlet.outcomes[-1]
        assert isinstance(repeated, JobDone)
        assert (repeated.seq, repeated.chunks, repeated.bytes) == (2, 2, 3)

        bench.executor.submit(job(attempt=2), outlet)
        await bench.settle()
    assert outlet.codes() == ["done", "done", "done"]
    assert len(backend.calls) == 2


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
        assert outlet.codes() == ["internal"]

        gate.set()
        await bench.settle()
    assert outlet.codes() == ["internal", "done"]


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


async def test_usage_is_told_however_a_job_ends() -> None:
    """Tokens were made, also for a job that was cancelled, or whose time was over (field note 14)."""
    outlet = RecordingOutlet()
    hung = ScriptedBackend(b"x", asyncio.Event(), usage=Usage(3, 4))
    async with executing(hung) as bench:
        bench.executor.submit(job("cancelled"), outlet)
        bench.executor.submit(job("late", deadline_ms=1), outlet)
        tasks = [running.task for running in bench.executor.running if running.task is not None]
        await bench.settle()
        bench.executor.cancel("cancelled", outlet)
        await asyncio.wait(tasks)
        await bench.settle()

    told = {outcome.job_id: outcome for outcome in outlet.outcomes if isinstance(outcome, JobError)}
    assert {name: each.error_code for name, each in told.items()} == {
        "cancelled": "cancelled",
        "late": "backend_timeout",
    }
    assert [(each.tokens_emitted, each.tokens) for each in told.values()] == [(4, Tokens.of(3, 4))] * 2


async def test_the_deadline_ends_a_hung_job() -> None:
    """A hung engine does not hold a slot for ever (field note 17)."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.executor.submit(job(deadline_ms=20), outlet)
        (running,) = bench.executor.running
        assert running.task is not None
        await asyncio.wait([running.task])
        await bench.settle()

    assert outlet.codes() == ["backend_timeout"]


async def test_a_coordinator_that_takes_no_bytes_ends_the_job_as_such() -> None:
    """It is the coordinator's doing, and the outcome says so (field note 11)."""
    outlet = OutletThatGivesUp()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert outlet.codes() == ["backpressure_timeout"]


async def test_a_job_that_waits_for_room_leaves_the_others_alone() -> None:
    """Bytes wait; decisions and other jobs do not (field note 11)."""
    stuck, free = FullOutlet(), RecordingOutlet()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job("stuck"), stuck)
        bench.executor.submit(job("free"), free)
        await bench.settle()
        assert free.codes() == ["done"]
        assert stuck.codes() == []

        stuck.room.set()
        await bench.settle()
    assert stuck.codes() == ["done"]


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
    assert (lost.codes(), kept.codes()) == (["session_lost"], ["done"])


async def test_bytes_for_a_closed_channel_end_the_job_as_session_lost() -> None:
    """The first byte after the loss is where the job notices by itself."""
    outlet = OutletOfAClosedChannel()
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert outlet.codes() == ["session_lost"]


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

    assert outlet.codes() == ["draining", "done"]


async def test_a_drain_whose_time_is_over_ends_the_rest_honestly() -> None:
    """What could not finish is told as agent_shutdown, not dropped."""
    outlet = RecordingOutlet()
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()
        await bench.executor.drain(grace_s=0)

    assert outlet.codes() == ["agent_shutdown"]


async def test_leaving_the_executor_ends_what_still_runs() -> None:
    """No task outlives its parent, and each job still has its outcome."""
    outlet = RecordingOutlet()
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.executor.submit(job(), outlet)
        await bench.settle()

    assert outlet.codes() == ["agent_shutdown"]
    assert backend.open_connections == 0
