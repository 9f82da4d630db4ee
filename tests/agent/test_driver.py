"""Which backend runs a job, under which name and limits, and what comes after one that fails."""

import asyncio

import msgspec
import pytest

from provider_agent.agent.routing import Policy
from provider_agent.backends.base import (
    BackendFailed,
    BackendUnreachable,
    ModelNotFound,
    OutOfSockets,
    StreamFailed,
    StreamTruncated,
    Usage,
)
from provider_agent.protocol.frames import JobError
from tests.fakes.backends import ScriptedBackend
from tests.fakes.executors import executing, job


async def test_the_backend_that_is_named_is_the_one_that_ran() -> None:
    """Where a prompt went is told, and it went nowhere else (field note 23)."""
    local = ScriptedBackend(b"x", name="local", priority=1)
    paid = ScriptedBackend(b"y", name="paid", priority=2)
    async with executing(paid, local) as bench:
        bench.submit(job())
        await bench.settle()

    assert [started.backend for started in bench.line.started] == ["local"]
    assert (len(local.calls), len(paid.calls)) == (1, 0)


async def test_the_route_decides_which_model_runs_and_not_the_request() -> None:
    """An alias runs under the engine's own name, whatever model the body asks for (field note 24)."""
    backend = ScriptedBackend(b"x", models=("tiny",))
    policy = Policy(expose=("public",), aliases={"public": "tiny"})
    async with executing(backend, policy=policy) as bench:
        body = msgspec.Raw(b'{"model":"dear","messages":[]}')
        bench.submit(job(model_id="public", request=body))
        await bench.settle()

    assert [call.model for call in backend.calls] == ["tiny"]


@pytest.mark.parametrize("asked", ["tiny", "never-listed"])
async def test_a_model_that_is_not_exposed_never_runs(asked: str) -> None:
    """Whoever knows the engine's own name gets no further than anybody else (field note 24)."""
    backend = ScriptedBackend(b"x", models=("tiny",))
    policy = Policy(expose=("public",), aliases={"public": "tiny"})
    async with executing(backend, policy=policy) as bench:
        bench.submit(job(model_id=asked))
        await bench.settle()

    assert bench.line.codes() == ["model_not_loaded"]
    assert backend.calls == []


async def test_jobs_are_spread_over_the_backends_of_a_model_up_to_the_limit_of_each() -> None:
    """Neither engine is idle while the other is full, and none gets more than it bears (field note 25)."""
    gate = asyncio.Event()
    small = ScriptedBackend(gate, name="small", max_concurrent=1)
    large = ScriptedBackend(gate, name="large", max_concurrent=2)
    async with executing(small, large) as bench:
        for number in range(4):
            bench.submit(job(f"j{number}"))
        await bench.settle()
        assert (len(small.calls), len(large.calls)) == (1, 2)
        assert bench.line.codes() == ["out_of_capacity"]

        gate.set()
        await bench.settle()
    assert bench.line.codes() == ["out_of_capacity", "done", "done", "done"]


async def test_a_backend_that_lost_the_model_is_passed_over() -> None:
    """A 404 of one engine is no reason not to ask the next; its connection was fine (field note 25)."""
    without = ScriptedBackend(name="without", priority=1, refuses=ModelNotFound("unloaded"))
    having = ScriptedBackend(b"x", name="having", priority=2)
    async with executing(without, having) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["done"]
    assert [started.backend for started in bench.line.started] == ["having"]
    assert bench.dead == []


async def test_a_job_goes_on_to_the_next_backend_when_one_is_unreachable() -> None:
    """The first dies and the jobs go to the second; discovery is told (field note 25)."""
    dead = ScriptedBackend(name="dead", priority=1, refuses=BackendUnreachable("no"))
    alive = ScriptedBackend(b"x", name="alive", priority=2)
    async with executing(dead, alive) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["done"]
    assert [started.backend for started in bench.line.started] == ["alive"]
    assert bench.dead == ["dead"]


async def test_a_shortage_of_ours_is_not_held_against_the_backend() -> None:
    """Its models stay on offer; the next one could not be reached either."""
    first = ScriptedBackend(name="a", priority=1, refuses=OutOfSockets("none left"))
    second = ScriptedBackend(b"x", name="b", priority=2)
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["out_of_capacity"]
    assert (bench.dead, second.calls) == ([], [])


async def test_a_backend_that_is_full_by_then_is_no_second_choice() -> None:
    """Its limit holds whatever became of the others; the coordinator lets the job wait, or asks elsewhere."""
    gate = asyncio.Event()
    dead = ScriptedBackend(name="a", refuses=BackendUnreachable("down"))
    small = ScriptedBackend(gate, name="b", max_concurrent=1)
    async with executing(dead, small) as bench:
        bench.submit(job("first to a"))
        bench.submit(job("then to b"))
        await bench.settle()
        gate.set()
        await bench.settle()

    assert bench.line.codes() == ["out_of_capacity", "done"]
    assert bench.dead == ["a"]
    assert small.most_open == 1


async def test_a_job_for_the_last_free_slot_of_an_engine_that_is_gone_waits_for_the_others() -> None:
    """The others were full when it came; its client need not hear of the dead one (field note 25)."""
    gate = asyncio.Event()
    dead = ScriptedBackend(name="a", priority=2, refuses=BackendUnreachable("down"))
    small = ScriptedBackend(gate, name="b", priority=1, max_concurrent=1)
    async with executing(dead, small) as bench:
        bench.submit(job("on b"), job("on a"))
        await bench.settle()
        gate.set()
        await bench.settle()

    assert bench.line.codes() == ["out_of_capacity", "done"]


async def test_the_last_backends_failure_is_the_jobs() -> None:
    """Nothing is left to try."""
    first = ScriptedBackend(name="a", priority=1, refuses=BackendUnreachable("no"))
    second = ScriptedBackend(name="b", priority=2, refuses=ModelNotFound("gone"))
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["model_not_loaded"]


async def test_an_answer_that_is_nothing_but_a_refusal_is_the_clients_fault() -> None:
    """As vLLM sends it, in a stream with status 200: no other engine is bothered with it."""
    refusing = ScriptedBackend(
        StreamFailed("no such schema", http_status=400), name="refusing", priority=1, usage=Usage()
    )
    other = ScriptedBackend(b"x", name="other", priority=2)
    async with executing(refusing, other) as bench:
        bench.submit(job())
        await bench.settle()

    assert (bench.line.codes(), other.calls) == (["bad_request"], [])


async def test_a_job_of_which_no_byte_has_come_moves_when_its_engine_dies() -> None:
    """Even after the engine's headers; the coordinator is told of the engine that answered alone."""
    dying = ScriptedBackend(StreamTruncated("cut"), name="dying", priority=1)
    alive = ScriptedBackend(b"x", name="alive", priority=2)
    async with executing(dying, alive) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["done"]
    assert [started.backend for started in bench.line.started] == ["alive"]
    assert bench.line.body("j") == b"x"


async def test_a_job_whose_answer_has_begun_does_not_move() -> None:
    """Half of one answer and the whole of another are no answer (field note 80)."""
    dying = ScriptedBackend(b"half", StreamTruncated("cut"), name="dying", priority=1)
    alive = ScriptedBackend(b"whole", name="alive", priority=2)
    async with executing(dying, alive) as bench:
        bench.submit(job())
        await bench.settle()

    assert bench.line.codes() == ["stream_truncated"]
    assert bench.line.body("j") == b"half"
    assert alive.calls == []


async def test_what_the_first_engine_counted_is_not_told_of_the_second() -> None:
    """Its tokens belong to an answer that nobody got (field note 14)."""
    first = ScriptedBackend(StreamTruncated("cut"), name="a", priority=1, usage=Usage(100, 100))
    second = ScriptedBackend(name="b", priority=2, refuses=BackendFailed("no"))
    async with executing(first, second) as bench:
        bench.submit(job())
        await bench.settle()

    (outcome,) = bench.line.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.tokens_emitted) == ("backend_error", None)


@pytest.mark.parametrize("field", ["first_byte_timeout_ms", "idle_timeout_ms"])
async def test_a_job_may_bring_its_own_time_limits(field: str) -> None:
    """The job's limits go before the operator's."""
    backend = ScriptedBackend(b"x")
    async with executing(backend, first_byte_timeout_s=9.0, idle_timeout_s=9.0) as bench:
        bench.submit(job("j", **{field: 1500}))
        await bench.settle()

    (call,) = backend.calls
    wanted = {"first_byte_timeout_ms": 9.0, "idle_timeout_ms": 9.0} | {field: 1.5}
    assert (call.first_byte_timeout_s, call.idle_timeout_s) == tuple(wanted.values())


async def test_the_operators_limit_on_answers_goes_with_the_call() -> None:
    """The adapter writes it into the request."""
    backend = ScriptedBackend(b"x")
    async with executing(backend, max_output_tokens=100) as bench:
        bench.submit(job())
        await bench.settle()

    assert [call.max_output_tokens for call in backend.calls] == [100]


async def test_bytes_that_came_before_a_failure_leave_before_it_is_told() -> None:
    """The client gets all that the engine said, and then learns that it is not the whole."""
    backend = ScriptedBackend(b"a" * 300_000, StreamTruncated("cut"))
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        assert bench.line.codes() == []
        assert len(bench.executor.running) == 1

        bench.executor.ack("j", len(bench.line.chunks("j")) - 1)
        await bench.settle()

    (outcome,) = bench.line.outcomes
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.bytes_sent) == ("stream_truncated", 300_000)
    assert len(bench.line.body("j")) == 300_000


async def test_a_deadline_ends_a_job_that_waits_for_its_client_alone() -> None:
    """The engine is done, the client reads nothing: the deadline is for the whole job (field note 17)."""
    backend = ScriptedBackend(b"a" * 300_000)
    async with executing(backend) as bench:
        bench.submit(job(deadline_ms=20))
        (running,) = bench.executor.running
        assert running.task is not None
        await asyncio.wait([running.task])
        await bench.settle()

    assert bench.line.codes() == ["backend_timeout"]
    assert bench.executor.running == ()


async def test_a_job_without_a_deadline_has_none() -> None:
    """Nothing but the engine, the client and the operator end it."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(gate, b"x")) as bench:
        bench.submit(job())
        await bench.settle()
        gate.set()
        await bench.settle()

    assert bench.line.codes() == ["done"]


@pytest.mark.parametrize("trouble", [BackendUnreachable("down"), ModelNotFound("gone")])
async def test_a_backend_that_was_replaced_speaks_for_nobody(trouble: Exception) -> None:
    """Its name is that of its successor, which is another engine by now."""
    gate = asyncio.Event()
    old, new = ScriptedBackend(gate, trouble, name="a"), ScriptedBackend(b"x", name="a")
    async with executing(old) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.breaker.present = {new}
        gate.set()
        await bench.settle()

    assert bench.line.codes() != ["done"]
    assert (bench.dead, bench.missing) == ([], [])


async def test_a_backend_that_has_not_got_the_model_is_told() -> None:
    """Somebody looks what it has instead."""
    backend = ScriptedBackend(name="a", refuses=ModelNotFound("gone"))
    async with executing(backend) as bench:
        bench.executor.breaker.present = {backend}
        bench.submit(job())
        await bench.settle()

    assert (bench.dead, bench.missing) == ([], ["a"])
