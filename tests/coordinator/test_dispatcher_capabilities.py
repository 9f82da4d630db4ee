"""An agent may say anew what it serves as often as it likes."""

from msgspec.structs import replace

from provider_agent.coordinator.events import CapabilitiesTaken
from tests.fakes.agents import Coordinator, offer, waits


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
