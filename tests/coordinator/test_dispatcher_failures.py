"""What happens to a job when its agent fails it, leaves, or errs: another try, or an honest end."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from provider_agent.coordinator.answer import DONE, Failed
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.errors import BadFrame
from provider_agent.protocol.frames import JobChunk, JobDone, Tokens
from tests.fakes.agents import CHAT, Coordinator, FakeAgent, code_of, end_of, now, offer, waits
from tests.fakes.coordinators import until


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    yield made
    made.close()


# --- dispatching again -------------------------------------------------------------------


async def test_a_job_that_fails_before_its_first_byte_goes_to_another_agent(coordinator: Coordinator) -> None:
    """The client sees nothing of it but the second agent's answer (field note 25)."""
    a = coordinator.agent("a", slots=9)
    b = coordinator.agent("b", slots=1)
    answer = coordinator.ask()

    a.start("j1", content_type="text/plain")
    a.fail("j1", "backend_unreachable")
    b.chunk("j1", b"whole")
    b.done("j1")

    assert (a.jobs[0].attempt, b.jobs[0].attempt) == (1, 2)
    assert await now(answer) == b"whole"
    assert await end_of(answer) == DONE
    assert answer.agent == "b"


async def test_bytes_that_the_client_has_not_taken_do_not_bind_it_to_an_agent(
    coordinator: Coordinator,
) -> None:
    """They are forgotten, never joined with another answer (field note 80)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()

    a.chunk("j1", b"half of one")
    a.fail("j1", "stream_error")
    b.chunk("j1", b"another")

    assert await now(answer) == b"another"


async def test_after_the_first_byte_a_failure_is_final(coordinator: Coordinator) -> None:
    """No second answer is appended to the first half (field notes 28, 80)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()
    a.chunk("j1", b"half")
    await now(answer)

    a.fail("j1", "stream_truncated")

    assert await code_of(answer) == "stream_truncated"
    assert b.jobs == []


async def test_what_cannot_be_cured_elsewhere_is_told_at_once(coordinator: Coordinator) -> None:
    """A bad request is bad everywhere (field note 63)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()

    a.fail("j1", "bad_request", http_status=422)

    end = await end_of(answer)
    assert isinstance(end, Failed)
    assert (end.code, end.http_status, b.jobs) == ("bad_request", 422, [])


async def test_an_agent_that_failed_a_job_does_not_get_it_again(coordinator: Coordinator) -> None:
    """With nobody else, the client hears the honest reason (field note 25)."""
    agent = coordinator.agent()
    answer = coordinator.ask()

    agent.fail("j1", "backend_error")

    assert await code_of(answer) == "backend_error"
    assert len(agent.jobs) == 1


async def test_a_job_whose_engine_is_away_waits_for_it(coordinator: Coordinator) -> None:
    """It may be started anew, so fast that its agent never takes the model off: a heartbeat is enough."""
    agent = coordinator.agent()
    coordinator.ask()

    agent.fail("j1", "backend_unreachable")
    assert len(agent.jobs) == 1
    agent.heartbeat()

    assert [job.attempt for job in agent.jobs] == [1, 2]


async def test_a_job_that_waits_for_room_is_tried_again_where_an_engine_was_away(
    coordinator: Coordinator,
) -> None:
    """Whatever it has met since then: what counts is how that agent has failed it."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    coordinator.ask()
    a.fail("j1", "backend_unreachable")
    b.fail("j1", "out_of_capacity")

    a.heartbeat()

    assert [job.attempt for job in a.jobs] == [1, 3]


async def test_an_agent_that_failed_a_job_is_not_forgiven_what_became_of_it_elsewhere(
    coordinator: Coordinator,
) -> None:
    """A connection that broke says nothing of the engine that could not do it before."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    coordinator.ask()
    a.fail("j1", "internal")
    b.leave()

    a.heartbeat()

    assert (len(a.jobs), coordinator.dispatcher.view().waiting_jobs) == (1, 1)


async def test_an_engine_that_is_back_while_another_one_tries_may_be_tried_again(
    coordinator: Coordinator,
) -> None:
    """It need not wait for the next sign that it is back."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    coordinator.ask()
    a.fail("j1", "backend_unreachable")
    a.offer(slots=9)
    a.offer(offer("m"), slots=9)

    b.fail("j1", "internal")

    assert [job.attempt for job in a.jobs] == [1, 3]


@pytest.mark.parametrize("way", ["three tries", "time"])
async def test_a_job_whose_engine_stays_away_is_told_so_in_the_end(
    coordinator: Coordinator, way: str
) -> None:
    """Nobody else could have done it, and nobody waits for ever."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    for _ in range(3 if way == "three tries" else 1):
        agent.heartbeat()
        agent.fail("j1", "backend_unreachable")

    if way == "time":
        coordinator.clock.advance(30)
        coordinator.dispatcher.expire()

    assert await code_of(answer) == "backend_unreachable"


async def test_attempts_are_bounded_and_the_last_error_is_told(coordinator: Coordinator) -> None:
    """Three agents that fail are enough."""
    agents = {each: coordinator.agent(each) for each in "abcd"}
    answer = coordinator.ask()

    for code in ("backend_error", "backend_loading", "rate_limited"):
        agents[answer.agent].fail("j1", code)

    assert await code_of(answer) == "rate_limited"
    assert sum(len(agent.jobs) for agent in agents.values()) == 3


async def test_a_job_waits_for_another_agent_that_is_busy(coordinator: Coordinator) -> None:
    """It keeps the place that its arrival gave it."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    early = coordinator.ask()
    a.offer(slots=9)
    coordinator.ask()
    late = coordinator.ask()

    a.fail("j1", "internal")
    b.done("j2")

    assert (early.agent, waits(late)) == ("b", True)


async def test_a_job_that_an_agent_has_failed_does_not_hold_up_others_there(coordinator: Coordinator) -> None:
    """It waits for somebody else, and those behind it need not."""
    coordinator.agent("a", slots=1)
    b = coordinator.agent("b", slots=1)
    coordinator.ask()
    coordinator.ask()
    behind = coordinator.ask()

    b.fail("j2", "internal")

    assert behind.agent == "b"


async def test_a_refusal_for_want_of_capacity_excludes_nobody_and_loops_not(coordinator: Coordinator) -> None:
    """The agent is believed to be full until it says something new; the job waits."""
    agent = coordinator.agent(slots=8)
    coordinator.ask()

    agent.fail("j1", "out_of_capacity")
    assert len(agent.jobs) == 1
    agent.heartbeat()

    assert [job.attempt for job in agent.jobs] == [1, 2]


async def test_refusals_of_two_models_do_not_take_turns(coordinator: Coordinator) -> None:
    """A refusal has freed no room, so it says nothing of the other model: else both would go to and fro."""
    agent = coordinator.agent("a", "m", "n")
    coordinator.ask("m")
    coordinator.ask("n")

    agent.fail("j1", "out_of_capacity")
    agent.fail("j2", "out_of_capacity")

    assert [job.job_id for job in agent.jobs] == ["j1", "j2"]


async def test_an_agent_that_ends_a_job_is_no_longer_believed_to_be_full(coordinator: Coordinator) -> None:
    """It has room now, whatever it said before."""
    agent = coordinator.agent(slots=8)
    coordinator.ask()
    coordinator.ask()
    agent.fail("j2", "out_of_capacity")

    agent.done("j1")

    assert [(job.job_id, job.attempt) for job in agent.jobs] == [("j1", 1), ("j2", 1), ("j2", 2)]


async def test_refusals_for_want_of_capacity_are_no_attempts(coordinator: Coordinator) -> None:
    """The queue's time bounds them, not their number; then 429."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    for _ in range(5):
        agent.fail("j1", "out_of_capacity")
        agent.heartbeat()
    agent.fail("j1", "out_of_capacity")

    coordinator.clock.advance(30)
    coordinator.dispatcher.expire()

    assert (len(agent.jobs), await code_of(answer)) == (6, "out_of_capacity")


async def test_an_agent_that_refuses_as_draining_gets_no_more_jobs(coordinator: Coordinator) -> None:
    """Its heartbeat may come later than its refusal (field note 46)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    coordinator.ask()

    a.fail("j1", "draining")
    coordinator.ask()

    assert (len(a.jobs), len(b.jobs)) == (1, 1)


# --- sessions ----------------------------------------------------------------------------


async def test_jobs_of_a_lost_session_go_to_others(coordinator: Coordinator) -> None:
    """Dispatch does not stay with a dead worker (field note 68)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()

    a.leave()
    b.chunk("j1", b"x")

    assert await now(answer) == b"x"
    assert b.jobs[0].attempt == 2


async def test_a_lost_session_in_the_middle_of_an_answer_is_told(coordinator: Coordinator) -> None:
    """What the client has is half, and it must know (field note 75)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)

    agent.leave()

    assert await code_of(answer) == "session_lost"


async def test_a_job_of_the_only_agent_waits_for_its_return(coordinator: Coordinator) -> None:
    """It is back in a second, as a rule; if not, the client hears why."""
    agent = coordinator.agent()
    answer, other = coordinator.ask(), coordinator.ask()
    agent.leave()
    assert agent.provider.jobs == {}

    again = coordinator.agent("a", slots=1)
    again.chunk("j1", b"x")
    again.leave()
    coordinator.clock.advance(30)
    coordinator.dispatcher.expire()

    assert (await code_of(answer), await code_of(other)) == ("session_lost", "session_lost")


async def test_a_job_that_was_served_for_a_while_may_wait_anew(coordinator: Coordinator) -> None:
    """What its first agent took of its time was no waiting."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    coordinator.clock.advance(29)
    agent.leave()
    coordinator.clock.advance(29)
    coordinator.dispatcher.expire()

    coordinator.agent("b")

    assert answer.agent == "b"


async def test_a_job_that_comes_back_needs_no_room_in_the_queue() -> None:
    """It was let in before; only new ones are turned away."""
    coordinator = Coordinator(DispatchLimits(queue_max_jobs=0))
    agent = coordinator.agent()
    answer = coordinator.ask()

    agent.leave()
    coordinator.agent("b")

    assert answer.agent == "b"


async def test_a_cancel_that_is_not_answered_frees_its_slot_by_itself() -> None:
    """On the clock of the loop, also when nothing else happens (field note 73)."""
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(DispatchLimits(cancel_grace_s=0.01), clock=loop.time)
    agent = FakeAgent(dispatcher, "a", "m", slots=1)
    watching = loop.create_task(dispatcher.watch())
    request = JobRequest("m", CHAT, b"{}", stream=False)

    async with asyncio.timeout(5):
        with contextlib.ExitStack() as first:
            first.enter_context(dispatcher.run(request))
            with dispatcher.run(request):
                await until(lambda: not dispatcher._alarm.is_set)  # `watch` waits for the queue's time
                first.close()
                await until(lambda: len(agent.jobs) == 2)

    watching.cancel()
    await asyncio.wait([watching])


async def test_the_newer_connection_of_an_identity_wins(coordinator: Coordinator) -> None:
    """The older one is told, and its jobs do not stay with it."""
    older = coordinator.agent("a")
    coordinator.ask()

    newer = coordinator.agent("a")
    older.leave()

    assert older.session.ended == (4002, "replaced by a newer connection of this identity")
    assert coordinator.dispatcher.fleet.providers == (newer.provider,)
    assert [job.job_id for job in newer.jobs] == ["j1"]


async def test_frames_of_an_older_session_are_late(coordinator: Coordinator) -> None:
    """Two attempts never mix in one answer (field note 4)."""
    older = coordinator.agent("a")
    answer = coordinator.ask()
    newer = coordinator.agent("a")

    older.chunk("j1", b"old")
    newer.chunk("j1", b"new")
    older.done("j1")

    assert await now(answer) == b"new"
    assert coordinator.dispatcher.late_frames == 2


async def test_nobody_finishes_a_job_that_another_agent_has(coordinator: Coordinator) -> None:
    """Knowing its id is not enough (field note 59)."""
    owner, other = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()

    other.chunk("j1", b"forged")
    other.done("j1")
    owner.chunk("j1", b"real")

    assert await now(answer) == b"real"
    assert coordinator.dispatcher.late_frames == 2


async def test_a_session_can_be_ended_by_its_providers_id(coordinator: Coordinator) -> None:
    """When its key is revoked."""
    agent = coordinator.agent("a")

    assert coordinator.dispatcher.end_session("a", 4001, "revoked")
    assert not coordinator.dispatcher.end_session("b", 4001, "revoked")
    assert agent.session.ended == (4001, "revoked")


# --- agents that err ---------------------------------------------------------------------


async def test_a_missing_chunk_never_passes_for_a_whole_answer(coordinator: Coordinator) -> None:
    """Numbers are there to be looked at (field note 15)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"a")
    await now(answer)

    agent.say(JobChunk(job_id="j1", data=b"c", seq=2))

    assert await code_of(answer) == "stream_truncated"
    assert agent.cancels == ["j1"]


async def test_a_missing_end_never_passes_for_a_whole_answer(coordinator: Coordinator) -> None:
    """The outcome says how many chunks there were."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"a")
    await now(answer)

    agent.say(JobDone(job_id="j1", tokens=Tokens(), duration_ms=1, seq=2))

    assert await code_of(answer) == "stream_truncated"
    assert agent.provider.jobs == {}


async def test_an_outcome_for_an_unknown_job_is_late(coordinator: Coordinator) -> None:
    """It frees nothing."""
    agent = coordinator.agent()
    coordinator.ask()

    agent.done("nobody's")
    agent.done("j1")
    agent.done("j1")

    assert (coordinator.dispatcher.late_frames, agent.provider.jobs) == (2, {})


async def test_a_frame_that_cannot_be_read_costs_only_its_own_job(coordinator: Coordinator) -> None:
    """Every other job of that agent goes on (field note 64)."""
    agent = coordinator.agent("a", slots=9)
    other = coordinator.agent("b", slots=1)
    struck, spared = coordinator.ask(), coordinator.ask()

    bad = BadFrame("is not base64", frame_type="job_chunk", field="data", job_id="j1")
    coordinator.dispatcher.deliver_bad(agent.provider, bad)
    coordinator.dispatcher.deliver_bad(agent.provider, BadFrame("is missing", frame_type="heartbeat"))
    agent.chunk("j2", b"fine")

    assert (struck.agent, agent.cancels, [job.job_id for job in other.jobs]) == ("b", ["j1"], ["j1"])
    assert await now(spared) == b"fine"


async def test_a_client_that_reads_too_slowly_loses_only_its_own_answer() -> None:
    """Memory is bounded, and the agent's other answers flow (field note 11)."""
    coordinator = Coordinator(DispatchLimits(answer_bytes=10))
    agent = coordinator.agent()
    slow, brisk = coordinator.ask(), coordinator.ask()
    agent.chunk("j1", b"12345")
    await now(slow)

    for _ in range(4):
        agent.chunk("j1", b"67890")
        agent.chunk("j2", b"x")

    assert agent.cancels == ["j1"]
    assert await now(slow) == b"6789067890"
    assert await code_of(slow) == "backpressure_timeout"
    assert await now(brisk) == b"xxxx"
