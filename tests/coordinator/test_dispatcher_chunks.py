"""Chunks in both forms reach the answer that they are of, each once, as many as were asked for."""

from collections.abc import Iterator

import pytest

from provider_agent.coordinator.answer import DONE
from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.protocol.frames import BinaryChunk, JobChunk, JobDone, Tokens
from tests.fakes.agents import Coordinator, code_of, end_of, now


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    yield made
    made.close()


async def test_a_binary_chunk_is_of_the_job_with_its_stream_id(coordinator: Coordinator) -> None:
    """Two answers of one agent, side by side, and in both forms."""
    agent = coordinator.agent()
    one, two = coordinator.ask(), coordinator.ask()
    first, second = agent.jobs

    agent.binary_chunk(first, b"1")
    agent.binary_chunk(second, b"2")
    agent.chunk("j1", b"1")
    agent.done("j1")

    assert first.stream_id != second.stream_id
    assert (await now(one), await now(two)) == (b"11", b"2")
    assert await end_of(one) == DONE


async def test_stream_ids_are_not_used_again(coordinator: Coordinator) -> None:
    """A late chunk of one job must not become part of another's answer (field note 4)."""
    agent = coordinator.agent()
    for number in (1, 2, 3):
        coordinator.ask()
        agent.done(f"j{number}")

    assert len({job.stream_id for job in agent.jobs}) == 3


async def test_a_stream_id_of_another_agent_is_nobodys_here(coordinator: Coordinator) -> None:
    """Numbers are small, so both have the same ones (field note 59)."""
    a, b = coordinator.agent("a", slots=2), coordinator.agent("b", slots=1)
    answer = coordinator.ask()
    (job,) = a.jobs

    b.binary_chunk(job, b"forged")
    a.binary_chunk(job, b"real")

    assert await now(answer) == b"real"
    assert coordinator.dispatcher.late_frames == 1


async def test_empty_chunks_are_taken_but_not_without_end() -> None:
    """One is harmless; an agent that sends nothing else would fill our memory with them."""
    coordinator = Coordinator(DispatchLimits(window_bytes=16))
    agent = coordinator.agent()
    answer = coordinator.ask()

    agent.chunk("j1", b"")
    agent.chunk("j1", b"data")
    assert await now(answer) == b"data"

    for _ in range(17):
        agent.chunk("j1", b"")
    assert await code_of(answer) == "internal"
    coordinator.close()


async def test_binary_chunks_of_a_job_that_is_over_are_late(coordinator: Coordinator) -> None:
    """By cancel, and by outcome."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    (job,) = agent.jobs
    coordinator.leave(answer)

    agent.binary_chunk(job, b"x")
    agent.fail("j1", "cancelled")
    agent.binary_chunk(job, b"x")

    assert coordinator.dispatcher.late_frames == 2
    assert answer.total_bytes == 0


async def test_a_chunk_that_was_here_before_is_ignored(coordinator: Coordinator) -> None:
    """An agent that resumes may send more again than it must."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    for seq, data in enumerate((b"a", b"b", b"c")):
        for _ in range(2):
            agent.say(JobChunk(job_id="j1", data=data, seq=seq))
    agent.say(JobDone(job_id="j1", tokens=Tokens(), duration_ms=1, seq=3))

    assert await now(answer) == b"abc"
    assert await end_of(answer) == DONE


async def test_a_gap_in_binary_chunks_fails_the_attempt(coordinator: Coordinator) -> None:
    """What is missing is not made up for (field note 15)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    (job,) = agent.jobs
    assert job.stream_id is not None

    agent.say(BinaryChunk(stream_id=job.stream_id, seq=1, data=b"b"))

    assert agent.cancels == ["j1"]
    assert await code_of(answer) == "stream_truncated"


async def test_an_agent_that_ignores_its_window_loses_that_job() -> None:
    """Memory is bounded by what we allow, not by what it sends (field note 80)."""
    coordinator = Coordinator(DispatchLimits(window_bytes=10))
    agent = coordinator.agent()
    flooded, spared = coordinator.ask(), coordinator.ask()
    agent.chunk("j1", b"1234567890")
    agent.chunk("j2", b"12345")
    assert agent.jobs[0].window_bytes == 10

    agent.chunk("j1", b"x")

    assert agent.cancels == ["j1"]
    assert await code_of(flooded) == "internal"
    assert await now(spared) == b"12345"


async def test_a_window_goes_on_with_what_its_client_takes() -> None:
    """It bounds what is on the way, not the answer."""
    coordinator = Coordinator(DispatchLimits(window_bytes=10))
    agent = coordinator.agent()
    answer = coordinator.ask()
    for _ in range(10):
        agent.chunk("j1", b"1234567890")
        assert await now(answer) == b"1234567890"
    agent.done("j1")

    assert await end_of(answer) == DONE


async def test_chunks_without_numbers_are_taken_as_they_come(coordinator: Coordinator) -> None:
    """As protocol 2 has them."""
    agent = coordinator.agent(protocol=2)
    answer = coordinator.ask()
    for data in (b"a", b"b"):
        agent.say(JobChunk(job_id="j1", data=data))
    agent.say(JobDone(job_id="j1", tokens=Tokens(), duration_ms=1))

    assert await now(answer) == b"ab"
    assert await end_of(answer) == DONE
