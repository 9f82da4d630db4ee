"""An agent may say anew what it serves as often as it likes."""

import pytest
from msgspec.structs import replace

from provider_agent.coordinator.events import CapabilitiesTaken
from tests.fakes.agents import Coordinator, now, offer, waits


def told(coordinator: Coordinator) -> list[tuple[str, ...]]:
    return [event.models for event in coordinator.events if isinstance(event, CapabilitiesTaken)]


async def test_other_models_are_told_to_those_who_watch() -> None:
    """The first ones, and each change."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    agent.offer(offer("m"), offer("n"))

    assert told(coordinator) == [("m",), ("m", "n")]


async def test_a_model_that_is_loaded_and_unloaded_by_the_minute_is_no_news() -> None:
    """It is taken note of for the choice, and acknowledged, but nobody reads a line about it each time."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    for warm in (True, False, True):
        agent.offer(replace(offer("m"), warm=warm))

    assert agent.provider.offers["m"].warm is True
    assert told(coordinator) == [("m",)]


async def test_jobs_that_wait_go_where_slots_appear() -> None:
    """An offer with the same models may have room now."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    agent.offer(replace(offer("m"), max_concurrent=0))
    answer = coordinator.ask()
    was_waiting = waits(answer)
    agent.offer(offer("m"))

    assert (was_waiting, [job.job_id for job in agent.jobs]) == (True, ["j1"])
    coordinator.close()


async def test_a_job_goes_back_to_the_agent_whose_engine_was_started_anew() -> None:
    """It failed at the engine that was stopped; who offers the model again has another one, or mended it."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.offer()
    agent.fail("j1", "backend_unreachable", retryable=True)
    with pytest.raises(TimeoutError):
        await now(answer)

    agent.offer(offer("m"))

    assert [job.job_id for job in agent.jobs] == ["j1", "j1"]
    coordinator.close()


async def test_an_agent_that_kept_the_model_gets_no_job_back_that_it_failed() -> None:
    """Another number of slots says nothing about what was wrong."""
    coordinator = Coordinator()
    agent, other = coordinator.agent("a"), coordinator.agent("b")
    other.offer(replace(offer("m"), max_concurrent=0))
    coordinator.ask()
    agent.fail("j1", "backend_error", retryable=True)

    agent.offer(offer("m"), offer("n"))

    assert (len(agent.jobs), other.jobs) == (1, [])
    coordinator.close()
