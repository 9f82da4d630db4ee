"""Who gets a job, and when: by size, by room, by turn; and what becomes of slots."""

import contextlib
from collections.abc import Iterator

import pytest

from provider_agent.coordinator import events
from provider_agent.coordinator.answer import Answer, Failed
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.frames import JobCancel
from tests.fakes.agents import CHAT, Coordinator, FakeAgent, capabilities, code_of, end_of, offer, waits


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    yield made
    made.close()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as made:
        yield made


def narrow(coordinator: Coordinator, provider_id: str, max_job_bytes: int, slots: int = 8) -> FakeAgent:
    """An agent that takes no larger request."""
    agent = coordinator.agent(provider_id)
    agent.say(capabilities(offer("m"), slots=slots, name=provider_id, max_job_bytes=max_job_bytes))
    return agent


def test_a_job_is_given_a_slot_a_number_and_a_frame(coordinator: Coordinator) -> None:
    """The ordinary case."""
    agent = coordinator.agent()
    coordinator.ask()
    coordinator.ask()

    assert [(job.job_id, job.attempt, job.stream_id) for job in agent.jobs] == [("j1", 1, 0), ("j2", 1, 1)]
    assert agent.provider.streams == {0: "j1", 1: "j2"}
    assert [event.job_id for event in coordinator.events if isinstance(event, events.JobDispatched)] == [
        "j1",
        "j2",
    ]


async def test_a_request_that_is_too_large_for_all_agents_is_refused_at_once(
    coordinator: Coordinator, stack: contextlib.ExitStack
) -> None:
    """413 without a round through the agents (field note 19)."""
    agent = narrow(coordinator, "a", 100)

    end = await end_of(ask(coordinator, stack, 101))

    assert isinstance(end, Failed)
    assert (end.code, end.http_status, agent.jobs) == ("request_too_large", 413, [])
    assert ask(coordinator, stack, 100).agent == "a"


async def test_a_large_request_goes_to_who_takes_it(
    coordinator: Coordinator, stack: contextlib.ExitStack
) -> None:
    """However busy that one is."""
    narrow(coordinator, "a", 100)
    wide = narrow(coordinator, "b", 1000, slots=1)

    assert ask(coordinator, stack, 500).agent == "b"
    large = ask(coordinator, stack, 500)
    assert waits(large)
    wide.done("j1")

    assert large.agent == "b"


async def test_a_large_request_that_waits_holds_up_no_small_one(
    coordinator: Coordinator, stack: contextlib.ExitStack
) -> None:
    """And a small one that waits says that the large ones must, too (field note 73)."""
    small = narrow(coordinator, "a", 100, slots=1)
    narrow(coordinator, "b", 1000, slots=1)
    ask(coordinator, stack, 500)
    ask(coordinator, stack, 50)
    large, little, larger = (ask(coordinator, stack, size) for size in (500, 50, 600))

    small.done("j2")

    assert (waits(large), little.agent, waits(larger)) == (True, "a", True)


async def test_each_slot_becomes_free_once(coordinator: Coordinator) -> None:
    """Whatever comes of its job after that."""
    agent = coordinator.agent()
    coordinator.ask()
    agent.fail("j1", "bad_request")
    agent.fail("j1", "bad_request")
    agent.leave()

    ended = [event.code for event in coordinator.events if isinstance(event, events.AttemptEnded)]
    assert ended == ["bad_request"]


async def test_stopping_ends_whatever_lives(coordinator: Coordinator) -> None:
    """Those that wait, too."""
    coordinator.agent(slots=1)
    answers = [coordinator.ask() for _ in range(3)]
    placing = coordinator.dispatcher._placing
    assert not placing.is_idle.is_set()

    placing.stop()

    assert [await code_of(answer) for answer in answers] == ["draining"] * 3
    assert placing.is_idle.is_set()
    assert len(placing.waiting) == 0


def ask(coordinator: Coordinator, stack: contextlib.ExitStack, size_bytes: int) -> Answer:
    request = JobRequest("m", CHAT, b"x" * size_bytes, stream=True)
    return stack.enter_context(coordinator.dispatcher.run(request))


def test_an_agent_that_never_says_the_end_does_not_keep_a_job_for_ever(coordinator: Coordinator) -> None:
    """Its client left with the end mark: nothing is left to cancel, but all is kept until then."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.start("j1")
    agent.chunk("j1", b"data: [DONE]\n\n")
    answer.take()
    coordinator.leave(answer)
    assert not [frame for frame in agent.session.posted if isinstance(frame, JobCancel)]

    for _ in range(2):
        assert coordinator.dispatcher.expire() == 10.0
        coordinator.clock.advance(10.0)
        coordinator.dispatcher.expire()

    assert [frame.job_id for frame in agent.session.posted if isinstance(frame, JobCancel)] == ["j1"]
    assert (agent.provider.jobs, coordinator.dispatcher.expire()) == ({}, None)
    assert [event.code for event in coordinator.events if isinstance(event, events.JobEnded)] == ["cancelled"]
