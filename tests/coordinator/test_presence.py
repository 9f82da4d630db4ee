"""Agents whose connection breaks come back to their jobs, or others take these; no client loses a byte."""

import asyncio
from collections.abc import Iterator

import pytest

from provider_agent.coordinator import events
from provider_agent.coordinator.answer import DONE
from provider_agent.coordinator.departed import RETURN_S
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.presence import LEAVING_WINDOW_S
from provider_agent.protocol.frames import JobDone, Resume, Resumed, ResumedJob, ResumeJob, Tokens
from tests.fakes.agents import Coordinator, FakeAgent, code_of, end_of, now, waits
from tests.fakes.coordinators import until


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    yield made
    made.close()


def has(job_id: str, next_seq: int = 0, attempt: int = 1) -> ResumeJob:
    return ResumeJob(job_id=job_id, attempt=attempt, next_seq=next_seq)


def goes_on(job_id: str, have_seq: int) -> ResumedJob:
    return ResumedJob(job_id=job_id, have_seq=have_seq)


def told(coordinator: Coordinator) -> list[type[events.Event]]:
    """Who came and went."""
    kinds = (events.AgentJoined, events.AgentLeft, events.AgentAway, events.AgentBack)
    return [type(event) for event in coordinator.events if isinstance(event, kinds)]


# --- resuming ----------------------------------------------------------------------------


async def test_an_answer_goes_on_where_it_broke_off(coordinator: Coordinator) -> None:
    """The client sees a pause, and every byte once (field note 8)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.start("j1")
    agent.chunk("j1", b"one ")
    assert await now(answer) == b"one "
    agent.chunk("j1", b"two ")
    agent.break_off()
    assert await now(answer) == b"two "

    again = agent.return_with(has("j1", 3))
    again.chunk("j1", b"three ")
    again.chunk("j1", b"four")
    again.done("j1")

    assert again.resumed == Resumed(jobs=(goes_on("j1", 1),))
    assert await now(answer) == b"three four"
    assert await end_of(answer) == DONE
    assert (len(agent.jobs), len(again.jobs), again.provider.jobs) == (1, 0, {})
    assert told(coordinator) == [events.AgentJoined, events.AgentAway, events.AgentBack]


async def test_the_stream_id_of_a_job_outlives_its_session(coordinator: Coordinator) -> None:
    """And no job that follows gets it."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.break_off()
    again = agent.return_with(has("j1"))
    coordinator.ask()

    again.binary_chunk(agent.jobs[0], b"x")

    assert await now(answer) == b"x"
    assert again.jobs[0].stream_id != agent.jobs[0].stream_id


async def test_an_outcome_that_came_while_nobody_heard_it_ends_its_job(coordinator: Coordinator) -> None:
    """The agent keeps it until it is acknowledged (field note 8)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"whole")
    agent.break_off()

    again = agent.return_with(has("j1", 1))
    again.done("j1")

    assert await now(answer) == b"whole"
    assert await end_of(answer) == DONE


async def test_what_nobody_wants_any_more_is_unknown(coordinator: Coordinator) -> None:
    """Its client left, before the break or after it; or it never was."""
    agent = coordinator.agent()
    before, after, ended = coordinator.ask(), coordinator.ask(), coordinator.ask()
    coordinator.leave(before)
    agent.done("j3")
    agent.break_off()
    coordinator.leave(after)

    again = agent.return_with(has("j1"), has("j2"), has("j3"), has("of nobody"))

    assert again.resumed == Resumed(jobs=(), unknown=("j1", "j2", "j3", "of nobody"))
    assert (again.provider.jobs, again.provider.streams) == ({}, {})
    assert await end_of(ended) == DONE


async def test_a_job_that_was_lost_on_its_way_to_the_agent_is_sent_again(coordinator: Coordinator) -> None:
    """It is not listed, and its client has seen nothing."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.break_off()

    again = agent.return_with()

    assert [(job.job_id, job.attempt) for job in again.jobs] == [("j1", 2)]
    again.chunk("j1", b"x")
    assert await now(answer) == b"x"


async def test_a_job_that_never_arrived_was_never_tried(coordinator: Coordinator) -> None:
    """A connection that breaks again and again costs time, and no job its tries."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    for number in range(10):
        agent.break_off()
        agent = agent.return_with(session_id=f"s{number + 2}")
    agent.chunk("j1", b"x")

    assert agent.jobs[-1].attempt == 11
    assert await now(answer) == b"x"


async def test_a_job_that_was_begun_and_is_forgotten_each_time_is_given_up(coordinator: Coordinator) -> None:
    """That is no lost frame, but an agent that loses its jobs."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    for number in range(3):
        agent.start("j1")
        agent.break_off()
        agent = agent.return_with(session_id=f"s{number + 2}")

    assert await code_of(answer) == "session_lost"


async def test_a_job_that_an_agent_has_forgotten_is_lost_if_its_client_has_a_byte(
    coordinator: Coordinator,
) -> None:
    """What is missing will not come (field note 75)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)
    agent.break_off()

    agent.return_with()

    assert await code_of(answer) == "session_lost"


async def test_another_attempt_than_ours_does_not_go_on(coordinator: Coordinator) -> None:
    """The agent refused it, and has not heard that we heard it; what we sent then was lost."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.fail("j1", "out_of_capacity")
    agent.heartbeat()
    assert [job.attempt for job in agent.jobs] == [1, 2]
    agent.break_off()

    again = agent.return_with(has("j1", attempt=1))
    again.chunk("j1", b"third")

    assert again.resumed == Resumed(jobs=(), unknown=("j1",))
    assert [job.attempt for job in again.jobs] == [3]
    assert await now(answer) == b"third"


async def test_an_agent_that_has_less_than_we_have_does_not_go_on(coordinator: Coordinator) -> None:
    """It cannot be the same answer."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"a")
    agent.chunk("j1", b"b")
    await now(answer)
    agent.break_off()

    again = agent.return_with(has("j1", 1))

    assert again.resumed == Resumed(jobs=(), unknown=("j1",))
    assert await code_of(answer) == "session_lost"


async def test_no_job_is_sent_before_the_agent_said_what_it_serves(coordinator: Coordinator) -> None:
    """It may serve less than before, and the turn is not ours."""
    agent = coordinator.agent("a", "m")
    agent.break_off()
    waiting = coordinator.ask()

    again = agent.return_with(models=())
    assert again.jobs == []
    again.offer()
    assert waits(waiting)


async def test_what_came_over_a_resumed_session_can_break_off_again(coordinator: Coordinator) -> None:
    """Any number of times."""
    agent = coordinator.agent()
    answer, seen = coordinator.ask(), b""
    for number in range(5):
        agent.chunk("j1", b"%d" % number)
        seen += await now(answer)  # type: ignore[operator]
        agent.break_off()
        agent = agent.return_with(has("j1", number + 1), session_id=f"s{number + 2}")
    agent.done("j1")

    assert seen == b"01234"
    assert await end_of(answer) == DONE


# --- two connections of one agent --------------------------------------------------------


async def test_a_newer_connection_takes_the_jobs_of_one_that_only_seems_to_hold(
    coordinator: Coordinator,
) -> None:
    """The agent knows that it is lost, and we do not yet (field note 38)."""
    older = coordinator.agent()
    answer = coordinator.ask()
    older.chunk("j1", b"a")

    newer = older.return_with(has("j1", 2))
    older.chunk("j1", b"late")
    older.done("j1")
    older.heartbeat(draining=True)
    older.offer()
    older.break_off()
    newer.chunk("j1", b"b")
    newer.done("j1")

    assert older.session.ended == (4002, "replaced by a newer connection of this identity")
    assert await now(answer) == b"ab"
    assert await end_of(answer) == DONE
    assert coordinator.dispatcher.fleet.providers == (newer.provider,)
    assert coordinator.dispatcher.late_frames == 4
    assert older.acks == []  # or the agent might think that we have its outcome


async def test_a_cancel_that_an_older_connection_swallowed_is_said_by_the_newer_one(
    coordinator: Coordinator,
) -> None:
    """By calling the job unknown; its slot is free."""
    older = coordinator.agent(slots=1)
    coordinator.leave(coordinator.ask())
    assert older.cancels == ["j1"]
    waiting = coordinator.ask()

    newer = older.return_with(has("j1"), slots=1)

    assert newer.resumed == Resumed(jobs=(), unknown=("j1",))
    assert waiting.agent == "a"


async def test_a_newer_connection_without_resume_loses_the_jobs_of_the_older_one(
    coordinator: Coordinator,
) -> None:
    """The agent was started anew; its name and models are known until it says otherwise."""
    older = coordinator.agent()
    half, unseen = coordinator.ask(), coordinator.ask()
    older.chunk("j1", b"half")
    await now(half)

    newer = coordinator.agent()

    assert older.session.ended is not None
    assert await code_of(half) == "session_lost"
    assert (unseen.agent, [job.attempt for job in newer.jobs]) == ("a", [2])
    assert told(coordinator) == [events.AgentJoined, events.AgentLeft, events.AgentJoined]


async def test_an_agent_that_was_started_anew_while_away_has_lost_its_jobs(coordinator: Coordinator) -> None:
    """At once: nobody will send what is missing."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)
    agent.break_off()

    again = coordinator.agent()

    assert (await code_of(answer), again.resumed) == ("session_lost", None)
    assert coordinator.dispatcher.fleet.away == {}


@pytest.mark.parametrize("named", ["of another coordinator", ""])
async def test_a_session_that_is_not_known_here_has_nothing_to_resume(
    coordinator: Coordinator, named: str
) -> None:
    """The coordinator was restarted; the agent is to give up what it lists."""
    resume = Resume(session_id=named, jobs=(has("j1", 5), has("j2")))

    agent = FakeAgent(coordinator.dispatcher, "a", "m", resume=resume)

    assert agent.resumed == Resumed(jobs=(), unknown=("j1", "j2"))


async def test_nobody_resumes_the_session_of_another(coordinator: Coordinator) -> None:
    """Knowing its name is not enough (field note 59)."""
    victim = coordinator.agent("a")
    answer = coordinator.ask()

    thief = FakeAgent(
        coordinator.dispatcher,
        "b",
        "n",
        resume=Resume(session_id=victim.session.session_id, jobs=(has("j1"),)),
    )
    victim.chunk("j1", b"x")

    assert thief.resumed == Resumed(jobs=(), unknown=("j1",))
    assert await now(answer) == b"x"


# --- away --------------------------------------------------------------------------------


async def test_an_agent_that_is_away_gets_no_jobs_but_keeps_its_models_on_offer(
    coordinator: Coordinator,
) -> None:
    """Clients wait for its return instead of hearing that there is no such model."""
    agent = coordinator.agent("a", "m")
    agent.break_off()

    answer = coordinator.ask()

    view = coordinator.dispatcher.view()
    assert (view.agents, view.free_slots, view.models, view.waiting_jobs) == (0, 0, 1, 1)
    again = agent.return_with()
    assert [job.job_id for job in again.jobs] == ["j1"]
    assert answer.agent == "a"


@pytest.mark.parametrize(("was_leaving", "window_s"), [(False, 60), (True, LEAVING_WINDOW_S)])
async def test_after_its_window_an_agent_is_not_waited_for(
    coordinator: Coordinator, was_leaving: bool, window_s: float
) -> None:
    """Its clients hear of it then, and the next ones wait for its model as for one that was just there.

    One that was leaving has most likely been ended in the middle of it: nobody should wait a minute for that.
    """
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)
    agent.heartbeat(draining=was_leaving)
    agent.break_off()

    coordinator.clock.advance(window_s - 1)
    coordinator.dispatcher.expire()
    with pytest.raises(TimeoutError):
        await now(answer)
    coordinator.clock.advance(1)
    coordinator.dispatcher.expire()

    assert await code_of(answer) == "session_lost"
    next_one = coordinator.ask()
    with pytest.raises(TimeoutError):
        await now(next_one)
    coordinator.clock.advance(RETURN_S)
    coordinator.dispatcher.expire()
    assert await code_of(next_one) == "agent_shutdown"
    assert told(coordinator) == [events.AgentJoined, events.AgentAway, events.AgentLeft]


async def test_who_comes_after_its_window_has_nothing_to_resume(coordinator: Coordinator) -> None:
    """Its jobs are told to be given up."""
    agent = coordinator.agent()
    coordinator.ask()
    agent.break_off()
    coordinator.clock.advance(60)
    coordinator.dispatcher.expire()

    again = agent.return_with(has("j1", 3))

    assert again.resumed == Resumed(jobs=(), unknown=("j1",))


async def test_no_agent_is_waited_for_when_that_is_switched_off() -> None:
    """With `resume_window_s` 0, neither lost nor replaced."""
    coordinator = Coordinator(DispatchLimits(resume_window_s=0))
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)

    again = agent.return_with(has("j1", 1))
    assert again.resumed == Resumed(jobs=(), unknown=("j1",))
    again.break_off()

    assert await code_of(answer) == "session_lost"
    assert coordinator.dispatcher.fleet.providers == ()


async def test_protocol_2_agents_are_not_waited_for(coordinator: Coordinator) -> None:
    """They cannot resume."""
    agent = coordinator.agent(protocol=2)
    agent.break_off()

    assert coordinator.dispatcher.fleet.providers == ()


async def test_an_agent_that_leaves_on_purpose_is_gone_at_once(coordinator: Coordinator) -> None:
    """And its jobs with it."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"half")
    await now(answer)

    agent.leave()
    agent.leave()

    assert await code_of(answer) == "session_lost"
    assert told(coordinator) == [events.AgentJoined, events.AgentLeft]


async def test_an_agent_that_is_away_can_be_expelled(coordinator: Coordinator) -> None:
    """Its key was revoked: it is not waited for."""
    agent = coordinator.agent()
    agent.break_off()

    assert coordinator.dispatcher.end_session("a", 4001, "revoked")
    assert not coordinator.dispatcher.end_session("a", 4001, "revoked")
    assert agent.session.ended is None


async def test_a_client_that_leaves_meanwhile_leaves_no_slot_taken(coordinator: Coordinator) -> None:
    """Nobody can be told now; the agent hears of it when it is back."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.break_off()

    coordinator.leave(answer)

    assert coordinator.dispatcher.view().running_jobs == 0
    ended = [event.code for event in coordinator.events if isinstance(event, events.AttemptEnded)]
    assert ended == ["cancelled"]
    assert agent.cancels == []


async def test_watch_gives_up_whoever_stays_away() -> None:
    """By itself, on the clock of the loop."""
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(DispatchLimits(resume_window_s=0.01, move_after_s=0.001), clock=loop.time)
    agent = FakeAgent(dispatcher, "a", "m")
    watching = loop.create_task(dispatcher.watch())
    await asyncio.sleep(0)
    agent.break_off()

    async with asyncio.timeout(5):
        await until(lambda: not dispatcher.fleet.providers)

    watching.cancel()
    await asyncio.wait([watching])


# --- moving ------------------------------------------------------------------------------


async def test_a_job_of_which_nothing_was_seen_moves_after_a_moment(coordinator: Coordinator) -> None:
    """The agent is mostly back within two seconds; then its own answer is the sooner one (field note 68)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()
    a.start("j1")
    a.chunk("j1", b"not seen")
    a.break_off()

    coordinator.clock.advance(1.9)
    coordinator.dispatcher.expire()
    assert b.jobs == []
    coordinator.clock.advance(0.1)
    coordinator.dispatcher.expire()
    b.chunk("j1", b"other")

    assert (answer.agent, b.jobs[0].attempt, a.provider.jobs) == ("b", 2, {})
    assert await now(answer) == b"other"


async def test_a_job_of_an_agent_that_fell_silent_moves_at_once(coordinator: Coordinator) -> None:
    """It was waited for already (field note 80)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    coordinator.ask()

    a.break_off(was_silent=True)

    assert [job.job_id for job in b.jobs] == ["j1"]


async def test_who_comes_back_to_a_job_that_moved_is_told_so(coordinator: Coordinator) -> None:
    """Two answers never mix (field note 80)."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()
    a.break_off(was_silent=True)

    again = a.return_with(has("j1", 4))
    again.chunk("j1", b"of a")
    b.chunk("j1", b"of b")

    assert again.resumed == Resumed(jobs=(), unknown=("j1",))
    assert await now(answer) == b"of b"


async def test_a_job_of_which_its_client_has_a_byte_does_not_move(coordinator: Coordinator) -> None:
    """It waits for the rest of that answer."""
    a, b = coordinator.agent("a", slots=9), coordinator.agent("b", slots=1)
    answer = coordinator.ask()
    a.chunk("j1", b"half ")
    await now(answer)
    a.break_off(was_silent=True)
    coordinator.clock.advance(30)
    coordinator.dispatcher.expire()
    assert b.jobs == []

    again = a.return_with(has("j1", 1))
    again.chunk("j1", b"and half")

    assert await now(answer) == b"and half"


async def test_without_another_agent_a_job_waits_for_its_own(coordinator: Coordinator) -> None:
    """Which goes on with it: nothing was thrown away."""
    agent = coordinator.agent()
    coordinator.agent("b", "n")
    answer = coordinator.ask()
    agent.chunk("j1", b"x")
    agent.break_off(was_silent=True)
    coordinator.clock.advance(40)
    coordinator.dispatcher.expire()

    agent.return_with(has("j1", 1)).done("j1")

    assert await now(answer) == b"x"
    assert await end_of(answer) == DONE


async def test_room_elsewhere_goes_to_whoever_came_first(coordinator: Coordinator) -> None:
    """A job at an agent that is away stands in the queue, too, at the place of its arrival."""
    a, b = coordinator.agent("a", slots=1), coordinator.agent("b", slots=1)
    stranded = coordinator.ask()
    coordinator.ask()
    waiting = coordinator.ask()
    a.break_off(was_silent=True)
    assert stranded.agent == "a"

    b.done("j2")

    assert (stranded.agent, waits(waiting)) == ("b", True)


async def test_a_job_that_moved_too_often_waits_for_its_agent(coordinator: Coordinator) -> None:
    """Moving counts as an attempt, and they are bounded; its agent may still come back."""
    agents = {name: coordinator.agent(name) for name in "abcd"}
    answer = coordinator.ask()
    for _ in range(3):
        agents[answer.agent].break_off(was_silent=True)

    holder = answer.agent
    assert sum(len(agent.jobs) for agent in agents.values()) == 3
    again = agents[holder].return_with(has("j1", attempt=3))
    again.say(JobDone(job_id="j1", tokens=Tokens(), duration_ms=1, seq=0))

    assert await end_of(answer) == DONE
