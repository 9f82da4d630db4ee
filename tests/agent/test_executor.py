"""Every job that is received gets one outcome and gives its slot back once."""

import asyncio

import msgspec

from provider_agent.agent.routing import Refusal
from provider_agent.backends.base import StreamTruncated, Usage
from provider_agent.protocol.errors import BadFrame, ErrorCode, Stage
from provider_agent.protocol.frames import JobDone, JobError, Tokens
from tests.fakes.backends import ScriptedBackend
from tests.fakes.executors import executing, job


async def test_a_job_is_started_relayed_and_done() -> None:
    """The ordinary case: one job from submit to its outcome."""
    async with executing(ScriptedBackend(b"Hel", b"lo")) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.body("j") == b"Hello"
    assert [started.upstream_model for started in bench.line.started] == ["m"]
    assert [type(outcome) for outcome in bench.line.outcomes] == [JobDone]
    assert bench.line.outcomes[0].tokens == Tokens.of(3, 5)
    assert [ended.code for ended in bench.ended] == [None]
    assert bench.executor.running == ()


async def test_a_job_beyond_capacity_is_refused_at_once() -> None:
    """Two run, three are refused before anything else happens (I5)."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate), max_concurrent=2) as bench:
        for number in range(5):
            bench.submit(job(f"j{number}"))
        assert bench.line.codes() == ["out_of_capacity"] * 3

        gate.set()
        await bench.settle()
        assert bench.line.codes() == ["out_of_capacity"] * 3 + ["done"] * 2


async def test_an_unknown_model_at_full_capacity_is_told_as_unknown() -> None:
    """Permanent reasons before passing ones (field note 9)."""
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1) as bench:
        bench.submit(job("a"))
        bench.submit(job("b", model_id="ghost"))
        bench.submit(job("c", endpoint="/v1/rerank"))

        assert bench.line.codes() == ["model_not_loaded", "unsupported_endpoint"]


async def test_a_request_over_the_limit_is_refused_as_that_jobs_own_fault() -> None:
    """One oversized job ends neither the session nor any other job (field note 19)."""
    async with executing(ScriptedBackend(b"x"), max_job_bytes=20) as bench:
        bench.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')))
        bench.submit(job("small"))
        await bench.settle()

    assert bench.line.codes() == ["request_too_large", "done"]


async def test_too_large_goes_before_draining_and_draining_before_full() -> None:
    """The order of I7, to its end."""
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1, max_job_bytes=20) as bench:
        bench.submit(job("runs"))
        bench.executor.draining = True
        bench.submit(job("big", request=msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')))
        bench.submit(job("late"))

        assert bench.line.codes() == ["request_too_large", "draining"]


async def test_the_operators_tokens_per_minute_are_enforced() -> None:
    """A full minute refuses new jobs and says when to come back."""
    async with executing(ScriptedBackend(b"x", usage=Usage(3, 5)), max_tokens_per_minute=8) as bench:
        bench.submit(job("a"))
        await bench.settle()
        bench.submit(job("b"))

    assert bench.line.codes() == ["done", "rate_limited"]
    refused = bench.line.outcomes[1]
    assert isinstance(refused, JobError)
    assert 59_000 < (refused.retry_after_ms or 0) <= 60_000


async def test_a_refused_job_takes_no_slot() -> None:
    """Refusals leave nothing behind, and the same id may come again."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate), max_concurrent=1) as bench:
        bench.submit(job("a"))
        bench.submit(job("b"))
        gate.set()
        await bench.settle()
        bench.submit(job("b"))
        await bench.settle()

    assert bench.line.codes() == ["out_of_capacity", "done", "done"]


async def test_a_malformed_job_is_answered() -> None:
    """Nobody waits for their own timeout (field note 16)."""
    async with executing(ScriptedBackend()) as bench:
        bad = BadFrame("Expected `int` >= 1", frame_type="job", field="deadline_ms", job_id="j")
        bench.executor.refuse_malformed(bad)

    (outcome,) = bench.line.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.stage) == ("bad_request", Stage.REFUSED)
    assert "deadline_ms" in outcome.message


async def test_a_job_that_runs_has_no_second_outcome_from_a_malformed_repetition() -> None:
    """The id is taken: its outcome will come, and only that (I1, I4)."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate, b"x")) as bench:
        bench.submit(job())
        bad = BadFrame("Expected `int` >= 1", frame_type="job", field="attempt", job_id="j")
        bench.executor.refuse_malformed(bad)
        gate.set()
        await bench.settle()

    assert bench.line.codes() == ["done"]


async def test_the_same_job_again_while_it_runs_changes_nothing() -> None:
    """Two generations never interleave under one id (field note 4)."""
    gate = asyncio.Event()
    backend = ScriptedBackend(b"x", gate)
    async with executing(backend) as bench:
        bench.submit(job())
        bench.submit(job())
        bench.submit(job(attempt=2))
        await bench.settle()
        assert bench.line.codes() == ["duplicate_job"]

        gate.set()
        await bench.settle()
    assert bench.line.codes() == ["duplicate_job", "done"]
    assert len(backend.calls) == 1


async def test_a_repeated_dispatch_after_the_end_gets_the_known_outcome() -> None:
    """I4: the same attempt is answered from memory, with the true count of what left; a higher one runs."""
    backend = ScriptedBackend(b"x", b"yz")
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        bench.submit(job())
        await bench.settle()
        assert len(backend.calls) == 1
        first, repeated = bench.line.outcomes
        assert first == repeated
        assert isinstance(repeated, JobDone)
        assert (repeated.chunks, repeated.bytes) == (len(bench.line.chunks("j")), 3)

        bench.submit(job(attempt=2))
        await bench.settle()
    assert bench.line.codes() == ["done", "done", "done"]
    assert len(backend.calls) == 2


async def test_a_crash_in_one_job_ends_that_job_and_no_other() -> None:
    """The job boundary: an outcome, the slot back, the rest untouched (field note 7)."""
    gate = asyncio.Event()
    broken, sound = ScriptedBackend(KeyError("x"), models=("a",)), ScriptedBackend(gate, b"y", models=("b",))
    broken.name = "broken"
    async with executing(broken, sound) as bench:
        bench.submit(job("sound", model_id="b"))
        bench.submit(job("broken", model_id="a"))
        await bench.settle()
        assert bench.line.codes() == ["internal"]

        gate.set()
        await bench.settle()
    assert bench.line.codes() == ["internal", "done"]


async def test_an_engine_error_is_told_with_its_code_and_stage() -> None:
    """After the first byte the stage says so, and the usage is kept (field note 14)."""
    async with executing(ScriptedBackend(b"x", StreamTruncated("cut"), usage=Usage(3, 4))) as bench:
        bench.submit(job())
        await bench.settle()

    (outcome,) = bench.line.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.stage, outcome.tokens_emitted) == (
        "stream_truncated",
        Stage.STREAMING,
        4,
    )


async def test_usage_is_told_however_a_job_ends() -> None:
    """Tokens were made, also for a job that was cancelled, or whose time was over (field note 14)."""
    hung = ScriptedBackend(b"x", asyncio.Event(), usage=Usage(3, 4))
    async with executing(hung) as bench:
        bench.submit(job("cancelled"))
        bench.submit(job("late", deadline_ms=1))
        tasks = [running.task for running in bench.executor.running if running.task is not None]
        await bench.settle()
        bench.executor.cancel("cancelled")
        await asyncio.wait(tasks)
        await bench.settle()

    told = {outcome.job_id: outcome for outcome in bench.line.outcomes if isinstance(outcome, JobError)}
    assert {name: each.error_code for name, each in told.items()} == {
        "cancelled": "cancelled",
        "late": "backend_timeout",
    }
    assert [(each.tokens_emitted, each.tokens) for each in told.values()] == [(4, Tokens.of(3, 4))] * 2


async def test_the_deadline_ends_a_hung_job() -> None:
    """A hung engine does not hold a slot for ever (field note 17)."""
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.submit(job(deadline_ms=20))
        (running,) = bench.executor.running
        assert running.task is not None
        await asyncio.wait([running.task])
        await bench.settle()

    assert bench.line.codes() == ["backend_timeout"]


async def test_a_drain_lets_running_jobs_finish() -> None:
    """New jobs are refused, running ones end as they would have (field notes 44, 46)."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate, b"x")) as bench:
        bench.submit(job("a"))
        draining = asyncio.create_task(bench.executor.drain(grace_s=5))
        await bench.settle()
        bench.submit(job("b"))
        gate.set()
        await bench.settle()
        assert not draining.done()
        bench.executor.ack("a", bench.line.outcomes[-1].seq or 0)
        await draining

    assert bench.line.codes() == ["draining", "done"]


async def test_a_drain_waits_until_the_coordinator_has_the_outcomes() -> None:
    """What has left may be lost with the connection: the process stays until it was resumed."""
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.submit(job())
        await bench.settle()
        draining = asyncio.create_task(bench.executor.drain(grace_s=5))
        await bench.lose_session()
        await bench.rejoin(j=-1)
        assert not draining.done()
        bench.executor.ack("j", bench.line.outcomes[-1].seq or 0)
        await draining

    assert bench.line.body("j") == b"x"
    assert bench.line.codes() == ["done"]


async def test_a_drain_whose_time_is_over_ends_the_rest_honestly() -> None:
    """What could not finish is told as agent_shutdown, not dropped."""
    async with executing(ScriptedBackend(asyncio.Event())) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.executor.drain(grace_s=0)

    assert bench.line.codes() == ["agent_shutdown"]


async def test_leaving_the_executor_ends_what_still_runs() -> None:
    """No task outlives its parent, and each job still has its outcome."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
    await bench.settle()

    assert bench.line.codes() == ["agent_shutdown"]
    assert backend.open_connections == 0


async def test_an_agent_that_rests_takes_no_new_job_and_finishes_what_runs() -> None:
    """It is asked at each job, so that it serves again from one job to the next."""
    gate = asyncio.Event()
    resting: list[Refusal | None] = [None]
    async with executing(ScriptedBackend(gate)) as bench:
        bench.executor.paused = lambda: resting[-1]
        bench.submit(job("a"))
        await bench.settle()
        resting.append(Refusal(ErrorCode.OUT_OF_CAPACITY, "this agent rests until 22:00", 60_000))
        bench.submit(job("b"))
        gate.set()
        await bench.settle()
        resting.append(None)
        bench.submit(job("c"))
        await bench.settle()

    assert bench.refused == [ErrorCode.OUT_OF_CAPACITY]
    assert [(ended.job_id, ended.code) for ended in bench.ended] == [("a", None), ("c", None)]
