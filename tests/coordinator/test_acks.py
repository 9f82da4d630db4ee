"""Agents hear of what was taken: soon enough to go on, and not for each token."""

from collections.abc import Iterator

import pytest

from provider_agent.coordinator.acks import ACK_DELAY_S
from provider_agent.coordinator.answer import DONE
from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.protocol.frames import JobChunk, JobDone, JobError, ResumeJob, Tokens
from tests.fakes.agents import Coordinator, end_of, now

WINDOW = DispatchLimits(window_bytes=100)


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator(WINDOW)
    yield made
    made.close()


async def test_what_was_taken_is_told_after_a_moment() -> None:
    """One frame for all that came meanwhile, whatever its number of chunks."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    answer = coordinator.ask()
    for _ in range(3):
        agent.chunk("j1", b"token")
        await now(answer)
    assert agent.acks == []

    coordinator.clock.advance(ACK_DELAY_S)

    assert agent.acks == [("j1", 2)]


async def test_half_a_window_is_told_at_once(coordinator: Coordinator) -> None:
    """The agent must not run dry while we are patient."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"x" * 49)
    await now(answer)
    assert agent.acks == []

    agent.chunk("j1", b"x")
    await now(answer)

    assert agent.acks == [("j1", 1)]


async def test_what_its_client_has_not_taken_is_not_told(coordinator: Coordinator) -> None:
    """So a slow client slows its own engine (field note 80)."""
    agent = coordinator.agent()
    coordinator.ask()
    agent.chunk("j1", b"x" * 90)

    coordinator.clock.advance(1)

    assert agent.acks == []


async def test_a_client_that_takes_late_lets_its_agent_go_on_then(coordinator: Coordinator) -> None:
    """An ack needs no chunk to ride on."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"x" * 10)
    coordinator.clock.advance(60)

    await now(answer)
    coordinator.clock.advance(ACK_DELAY_S)

    assert agent.acks == [("j1", 0)]


async def test_one_timer_serves_all_jobs(coordinator: Coordinator) -> None:
    """It runs while anybody is owed an ack."""
    agent = coordinator.agent()
    for _ in range(2):
        for answer in (coordinator.ask(), coordinator.ask()):
            agent.chunk(answer.job_id, b"x")
            await now(answer)
        assert len(coordinator.clock._timers) == 1
        coordinator.clock.advance(ACK_DELAY_S)

    assert agent.acks == [("j1", 0), ("j2", 0), ("j3", 0), ("j4", 0)]
    assert coordinator.clock._timers == []


async def test_an_outcome_is_told_at_once_and_says_all(coordinator: Coordinator) -> None:
    """The agent can forget the job: what its client has not taken is held here."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"never read before the end")

    agent.done("j1")
    coordinator.clock.advance(ACK_DELAY_S)

    assert agent.acks == [("j1", 1)]
    assert await end_of(answer) == DONE


async def test_an_outcome_that_nobody_waits_for_is_told_too(coordinator: Coordinator) -> None:
    """Else the agent would keep it, and its last bytes, for us (field note 47)."""
    agent = coordinator.agent()
    coordinator.leave(coordinator.ask())

    agent.fail("j1", "cancelled")
    agent.fail("j1", "cancelled")
    agent.done("of somebody else")

    assert agent.acks == [("j1", 0), ("j1", 0), ("of somebody else", 0)]


async def test_what_only_answers_us_is_not_answered_again(coordinator: Coordinator) -> None:
    """An agent may call a job unknown because of our ack: that would go on for ever."""
    agent = coordinator.agent()

    agent.say(JobError(job_id="j", error_code="unknown_job", message="", seq=0))
    agent.say(JobError(job_id="j", error_code="out_of_capacity", message=""))

    assert agent.acks == []


async def test_protocol_2_hears_of_nothing(coordinator: Coordinator) -> None:
    """It has no such frame; what is remembered of its chunks is forgotten all the same."""
    agent = coordinator.agent(protocol=2)
    answer = coordinator.ask()
    for _ in range(300):
        agent.say(JobChunk(job_id="j1", data=b"x"))
        await now(answer)
    job = coordinator.dispatcher._jobs["j1"]
    coordinator.clock.advance(ACK_DELAY_S)
    assert not job.inflow._ends

    agent.say(JobDone(job_id="j1", tokens=Tokens(), duration_ms=1))

    assert agent.acks == []
    assert await end_of(answer) == DONE


async def test_an_agent_that_is_away_hears_of_it_when_it_is_back(coordinator: Coordinator) -> None:
    """Its client goes on taking what is here."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"x" * 60)
    agent.break_off()
    await now(answer)
    coordinator.clock.advance(ACK_DELAY_S)
    assert agent.acks == []

    again = agent.return_with(ResumeJob(job_id="j1", attempt=1, next_seq=1))

    assert again.acks == [("j1", 0)]


async def test_an_ack_that_was_lost_is_said_again(coordinator: Coordinator) -> None:
    """It may have been the one that a full window waits for."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"x" * 60)
    await now(answer)
    agent.chunk("j1", b"x" * 40)
    agent.break_off()

    again = agent.return_with(ResumeJob(job_id="j1", attempt=1, next_seq=2))
    again.offer()

    assert (agent.acks, again.acks) == ([("j1", 0)], [("j1", 0)])


async def test_a_job_of_which_nothing_was_taken_has_nothing_to_repeat(coordinator: Coordinator) -> None:
    """Its agent sends what we do not have, and that is all."""
    agent = coordinator.agent()
    coordinator.ask()
    agent.chunk("j1", b"x")
    agent.break_off()

    again = agent.return_with(ResumeJob(job_id="j1", attempt=1, next_seq=1))

    assert again.acks == []
