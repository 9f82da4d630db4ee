"""Jobs belong to the process: what a session's end, its successor and an acknowledgement do to them."""

import asyncio
import gc

import pytest

from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import JobError, ResumeJob
from tests.fakes.backends import BackendThatClosesLate, ScriptedBackend
from tests.fakes.executors import RESUME_S, Bench, executing, job
from tests.fakes.logs import LogLines
from tests.fakes.outlets import FullLine, Line
from tests.simulation.loop import run_virtually


async def ended(bench: Bench) -> list[ErrorCode | None]:
    await bench.settle()
    return [each.code for each in bench.ended]


async def test_a_job_runs_on_while_nobody_is_there() -> None:
    """It ends, its outcome is kept, and the next session gets it after the bytes (I8)."""
    gate = asyncio.Event()
    async with executing(ScriptedBackend(b"Hel", gate, b"lo")) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.lose_session()
        gate.set()
        assert await ended(bench) == []  # bytes wait: it is not over before they have left

        await bench.rejoin(j=0)
        assert bench.line.body("j") == b"lo"
        assert bench.line.codes() == ["done"]


async def test_an_outcome_that_nobody_acknowledged_goes_again() -> None:
    """It left and was lost with the connection (field note 8); the bytes that are there do not."""
    async with executing(ScriptedBackend(b"Hello")) as bench:
        bench.submit(job())
        await bench.settle()
        first = bench.line
        assert bench.executor.resumable() == (ResumeJob(job_id="j", attempt=1, next_seq=1),)
        await bench.lose_session()
        await bench.rejoin(j=0)

        assert bench.line.chunks("j") == []
        assert bench.line.outcomes == first.outcomes
        bench.executor.ack("j", 1)
        assert bench.executor.resumable() == ()


async def test_what_is_acknowledged_whole_is_forgotten() -> None:
    """Nothing is left of a job that the coordinator has (field note 47)."""
    async with executing(ScriptedBackend(b"Hello")) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.ack("j", 0)
        assert len(bench.executor.resumable()) == 1
        bench.executor.ack("j", 1)

        assert bench.executor.resumable() == ()
        bench.executor.ack("j", 1)
        assert bench.line.codes() == ["done"]


async def test_a_protocol_2_job_is_not_kept_once_it_ended() -> None:
    """Nobody will acknowledge it."""
    async with executing(ScriptedBackend(b"Hello"), line=Line(protocol=2)) as bench:
        bench.submit(job())
        await bench.settle()

        assert bench.executor.resumable() == ()


def test_when_the_window_has_passed_jobs_end_and_are_told_to_the_log_alone() -> None:
    """Sixty seconds, and then the engine has better things to do (protocol.md 7)."""

    async def main() -> None:
        backend = ScriptedBackend(b"x", asyncio.Event())
        log = LogLines()
        async with executing(backend, ScriptedBackend(b"y", models=("other",))) as bench:
            bench.submit(job("runs"), job("ended", model_id="other"))
            await bench.settle()
            await bench.lose_session(5.0)
            await asyncio.sleep(4.9)
            assert backend.open_connections == 1
            assert bench.executor.resume_left_s == pytest.approx(0.1)

            await asyncio.sleep(0.2)
            assert len(bench.executor.running) == len(bench.executor.resumable()) == 0
            assert (backend.open_connections, bench.executor.resume_left_s) == (0, 0.0)
            assert await ended(bench) == [None, ErrorCode.SESSION_LOST]
            assert [entry["code"] for entry in log.named("job_ended")] == ["done", "session_lost"]

            await bench.rejoin()
            assert bench.line.frames == []

    run_virtually(main())


async def test_where_nobody_comes_back_jobs_end_at_once() -> None:
    """A window of 0: as without resume (field note 10)."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.lose_session(0.0)
        await bench.settle()

        assert (bench.executor.running, backend.open_connections) == ((), 0)
        assert bench.executor.resumable() == ()


async def test_a_job_that_was_given_up_holds_its_slot_until_its_engine_is_free() -> None:
    """Then it is dispatched anew: whoever asks before that gets an answer (I1, I3, I4)."""
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend, max_concurrent=1) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.lose_session()
        await bench.rejoin()
        bench.submit(job(), job(attempt=2), job("other"))
        assert bench.line.codes() == ["duplicate_job", "duplicate_job", "out_of_capacity"]
        bench.executor.cancel("j")
        assert bench.line.codes()[-1] == "unknown_job"

        backend.closed.set()
        await bench.settle()
        backend.steps = (b"y",)
        bench.submit(job(attempt=2))
        await bench.settle()
        assert bench.line.codes()[-1] == "done"
        assert bench.line.body("j") == b"y"


async def test_a_job_that_was_cancelled_when_the_line_broke_is_told_as_cancelled() -> None:
    """If the coordinator still waits for that word."""
    backend = BackendThatClosesLate(b"x", asyncio.Event())
    async with executing(backend) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.cancel("j")
        await bench.lose_session()
        backend.closed.set()
        await bench.settle()
        await bench.rejoin(j=-1)

        assert bench.line.codes() == ["cancelled"]
        assert bench.line.chunks("j") == []


@pytest.mark.parametrize("have_seq", [5, -1])
async def test_a_job_that_cannot_go_on_where_it_should_is_ended_in_words(have_seq: int) -> None:
    """Bytes that never left, or are not kept any more: an honest error, and never a gap (field note 15)."""
    log = LogLines()
    runs, ends = ScriptedBackend(b"Hel", asyncio.Event()), ScriptedBackend(b"x", models=("n",))
    async with executing(runs, ends) as bench:
        bench.submit(job("runs"), job("ended", model_id="n"))
        await bench.settle()
        for job_id in ("runs", "ended"):
            bench.executor.ack(job_id, 0)
        await bench.lose_session()
        await bench.rejoin(runs=have_seq, ended=have_seq)

        told = {each.job_id: each for each in bench.line.outcomes if isinstance(each, JobError)}
        assert {job_id: each.error_code for job_id, each in told.items()} == {
            "runs": "session_lost",
            "ended": "session_lost",
        }
        assert len(log.named("resume_impossible")) == 2


async def test_a_job_that_is_waited_for_and_is_not_here_any_more_is_ended_in_words() -> None:
    """The window passed while the coordinator was letting us in: its client must not wait for ever (I1)."""
    async with executing(ScriptedBackend(b"Hel", asyncio.Event())) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.lose_session(0.0)
        await bench.rejoin(j=0, forgotten=2)

        assert sorted(outcome.job_id for outcome in bench.line.outcomes) == ["forgotten", "j"]
        assert bench.line.codes() == ["session_lost", "session_lost"]


async def test_an_acknowledgement_of_what_was_never_sent_is_logged_and_no_more() -> None:
    """The job goes on; if the coordinator is that confused, the job's own limits end it."""
    log = LogLines()
    async with executing(ScriptedBackend(b"x", asyncio.Event())) as bench:
        bench.submit(job())
        await bench.settle()
        bench.executor.ack("j", 7)

        assert len(bench.executor.running) == 1
        assert [entry["job_id"] for entry in log.named("bad_ack")] == ["j"]


async def test_an_acknowledgement_for_a_job_that_was_never_here_is_answered_once() -> None:
    """The answer may be acknowledged in turn: two programs must not talk like that for ever."""
    async with executing(ScriptedBackend(asyncio.Event()), max_concurrent=1) as bench:
        for _ in range(3):
            bench.executor.ack("ghost", 0)
        bench.submit(job("runs"), job("refused"))
        bench.executor.ack("refused", 0)

        assert bench.line.codes() == ["unknown_job", "out_of_capacity"]


async def test_a_dispatch_after_the_end_is_not_mixed_with_the_bytes_of_the_attempt_before() -> None:
    """The socket was full: first the end of the one leaves, then the other (field note 4)."""
    line = FullLine()
    backend = ScriptedBackend(b"x")
    async with executing(ScriptedBackend(b"-", models=("first",)), backend, line=line) as bench:
        bench.submit(job("first", model_id="first"))
        await bench.settle()
        bench.submit(job())
        await bench.settle()
        line.release()
        await bench.settle()
        bench.submit(job(attempt=2))
        await bench.settle()

    assert line.codes() == ["done", "done", "done"]
    assert line.body("j") == b"xx"


# --- leaving while nobody is there --------------------------------------------------------


@pytest.mark.parametrize("steps", [(b"x",), (b"x", asyncio.Event())])
async def test_a_drain_whose_time_is_over_waits_for_nobody(steps: tuple[bytes | asyncio.Event, ...]) -> None:
    """Whether the job has ended or runs yet."""
    async with executing(ScriptedBackend(*steps)) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.lose_session()
        await bench.executor.drain(grace_s=0.01)

        assert bench.executor.running == ()


async def test_a_drain_without_jobs_waits_for_no_session() -> None:
    """An idle agent leaves at once, connected or not."""
    async with executing(ScriptedBackend()) as bench:
        await bench.lose_session()
        await bench.executor.drain(grace_s=RESUME_S)

        assert bench.executor.resume_left_s > 0


async def test_a_coordinator_that_acknowledges_nothing_delays_the_exit_by_the_grace_alone() -> None:
    """What has left is waited for as long as there is time, since the line may break yet."""
    async with executing(ScriptedBackend(b"x")) as bench:
        bench.submit(job())
        await bench.settle()
        await bench.executor.drain(grace_s=0.01)

        assert len(bench.executor.resumable()) == 1


# --- the coordinator takes nothing --------------------------------------------------------


@pytest.mark.parametrize(("protocol", "patience_s"), [(3, 30.0), (2, 5.0)])
def test_a_coordinator_that_takes_nothing_ends_the_job_as_such(protocol: int, patience_s: float) -> None:
    """It is its doing, and the outcome says so; other jobs are not touched (field note 11)."""

    async def main() -> None:
        stuck = ScriptedBackend(bytes(600_000), asyncio.Event(), models=("stuck",))
        line = FullLine(protocol=protocol)
        async with executing(stuck, ScriptedBackend(asyncio.Event()), line=line) as bench:
            bench.submit(job("other"), job("j", model_id="stuck"))
            await asyncio.sleep(patience_s - 1.0)
            assert len(bench.executor.running) == 2
            await asyncio.sleep(1.5)
            line.release()
            await bench.settle()

            assert [each.job_id for each in bench.ended] == ["j"]
            assert line.codes() == ["backpressure_timeout" if protocol == 3 else "internal"]
            assert stuck.open_connections == 0

    run_virtually(main())


async def test_a_window_can_be_asked_for_within_bounds() -> None:
    """A smaller one is kept to; a huge one would be ours to hold in memory."""
    async with executing(ScriptedBackend(bytes(5_000_000))) as bench:
        bench.submit(job("small", window_bytes=1000), job("huge", window_bytes=2**40))
        await bench.settle()
        held = {row.job.job_id: row.lane.window.unacked_bytes for row in bench.executor.running}

    assert held == {"small": 1000, "huge": 1024 * 1024}


async def test_a_job_that_is_over_leaves_nothing_to_be_searched_for() -> None:
    """Memory is free once the coordinator has the outcome, not when a collector finds it (field note 77)."""
    backend = ScriptedBackend(b"x")
    async with executing(backend) as bench:
        garbage = []
        for job_id in ("first", "second"):
            bench.submit(job(job_id))
            await bench.settle()
            bench.executor.ack(job_id, 1)
            backend.replies.clear()
            garbage.append(gc.collect())

    assert garbage[1] == 0
