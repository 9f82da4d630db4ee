"""Jobs go where there is room, in the order of their arrival, and end exactly once."""

import asyncio
from collections.abc import Iterator

import pytest

from provider_agent.coordinator import events
from provider_agent.coordinator.answer import DONE, Failed
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.frames import CapabilitiesOk, JobCancel
from tests.fakes.agents import CHAT, EMBEDDINGS, Coordinator, FakeAgent, code_of, end_of, now, offer, waits


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    yield made
    made.close()


# --- the ordinary case -------------------------------------------------------------------


async def test_a_job_goes_to_an_agent_and_its_bytes_to_the_client(coordinator: Coordinator) -> None:
    """The straight line, once along."""
    agent = coordinator.agent()
    answer = coordinator.ask()

    agent.start("j1")
    agent.chunk("j1", b"data: 1\n\n")
    agent.chunk("j1", b"data: [DONE]\n\n")
    agent.done("j1")

    assert await now(answer) == b"data: 1\n\ndata: [DONE]\n\n"
    assert await end_of(answer) == DONE
    assert (answer.agent, answer.content_type, agent.provider.jobs) == ("a", "text/event-stream", {})


async def test_a_slot_is_taken_at_dispatch(coordinator: Coordinator) -> None:
    """Not at the engine's response headers, or a burst would all go one way (field note 71)."""
    a, b = coordinator.agent("a", slots=2), coordinator.agent("b", slots=2)

    for _ in range(4):
        coordinator.ask()

    assert (len(a.jobs), len(b.jobs)) == (2, 2)


async def test_an_answer_without_bytes_is_an_answer(coordinator: Coordinator) -> None:
    """As is one without `job_started`, in protocol 2."""
    agent = coordinator.agent()
    answer = coordinator.ask()

    agent.done("j1")

    assert await end_of(answer) == DONE


async def test_capabilities_are_acknowledged_with_what_is_not_taken(coordinator: Coordinator) -> None:
    """The agent learns which of its models will get no jobs."""
    agent = coordinator.agent()

    agent.offer(offer("m"), offer("m"))

    taken = agent.session.posted[-1]
    assert isinstance(taken, CapabilitiesOk)
    assert [each.model_id for each in taken.rejected] == ["m"]


# --- refusals ----------------------------------------------------------------------------


async def test_an_unknown_model_is_refused_at_once(coordinator: Coordinator) -> None:
    """404 in the client's words, and no place in the queue."""
    coordinator.agent()

    answer = coordinator.ask("other")

    end = await end_of(answer)
    assert isinstance(end, Failed)
    assert (end.code, end.http_status) == ("model_not_loaded", 404)


async def test_an_agent_that_is_started_anew_costs_its_clients_seconds(coordinator: Coordinator) -> None:
    """Who asks while it is gone waits, and is served when its model is back."""
    coordinator.agent().leave()
    waiting = coordinator.ask()
    coordinator.clock.advance(5)

    coordinator.agent()

    assert waiting.agent == "a"


async def test_who_waited_for_a_model_may_wait_for_a_slot_when_it_is_back(coordinator: Coordinator) -> None:
    """As long as everybody else, from its arrival on."""
    coordinator.agent().leave()
    coordinator.clock.advance(20)
    first, second = coordinator.ask(), coordinator.ask()
    agent = coordinator.agent(slots=1)

    coordinator.clock.advance(29)
    coordinator.dispatcher.expire()
    agent.done(first.job_id)

    assert second.agent == "a"


async def test_a_coordinator_that_is_started_anew_waits_for_its_agents() -> None:
    """It does not know yet who has what; a name that nobody has by then is unknown."""
    coordinator = Coordinator(DispatchLimits(young_s=10))
    wanted, mistyped = coordinator.ask("m"), coordinator.ask("mm")
    coordinator.clock.advance(9)
    coordinator.dispatcher.expire()
    coordinator.agent()
    assert wanted.agent == "a"

    coordinator.clock.advance(1)
    coordinator.dispatcher.expire()

    assert await code_of(mistyped) == "model_not_loaded"


async def test_who_had_to_wait_less_than_a_model_needs_to_come_back_hears_that_it_is_away() -> None:
    """And not that no slot was free: there was none at all."""
    coordinator = Coordinator(DispatchLimits(queue_max_wait_s=1))
    coordinator.agent().leave()
    waited = coordinator.ask()
    coordinator.clock.advance(1)
    coordinator.dispatcher.expire()

    assert await code_of(waited) == "agent_shutdown"


async def test_a_model_that_does_not_come_back_in_time_is_away_and_not_unknown(
    coordinator: Coordinator,
) -> None:
    """503 with a time to come back, for who waited and for who asks then: clients try that again, no 404."""
    coordinator.agent().leave()
    waited = coordinator.ask()
    coordinator.clock.advance(30)
    coordinator.dispatcher.expire()

    for answer in (waited, coordinator.ask()):
        end = await end_of(answer)
        assert isinstance(end, Failed)
        assert (end.code, end.http_status, end.retry_after_s) == ("agent_shutdown", 503, 5.0)


async def test_an_endpoint_that_nobody_offers_is_refused_at_once(coordinator: Coordinator) -> None:
    """Whoever has the model has it for something else."""
    coordinator.agent()

    assert await code_of(coordinator.ask("m", EMBEDDINGS)) == "unsupported_endpoint"


async def test_a_full_queue_refuses_the_next_job_and_keeps_the_others() -> None:
    """429, and a time to come back; nobody who waits is disturbed (field note 64)."""
    coordinator = Coordinator(DispatchLimits(queue_max_jobs=1))
    agent = coordinator.agent(slots=1)
    coordinator.ask()
    waiting = coordinator.ask()

    refused = await end_of(coordinator.ask())

    assert isinstance(refused, Failed)
    assert (refused.code, refused.http_status) == ("out_of_capacity", 429)
    assert refused.retry_after_s is not None
    agent.done("j1")
    assert waiting.agent == "a"


async def test_a_job_that_waited_too_long_is_refused(coordinator: Coordinator) -> None:
    """After `queue_max_wait_s`, and not before."""
    coordinator.agent(slots=1)
    coordinator.ask()
    waiting = coordinator.ask()

    coordinator.clock.advance(29.9)
    assert pytest.approx(0.1) == coordinator.dispatcher.expire()
    coordinator.clock.advance(0.1)
    assert coordinator.dispatcher.expire() is None

    end = await end_of(waiting)
    assert isinstance(end, Failed)
    assert (end.http_status, end.retry_after_s is not None) == (429, True)


async def test_a_draining_coordinator_refuses_new_jobs_and_waits_for_the_others(
    coordinator: Coordinator,
) -> None:
    """Deploys do not cut answers (field note 68)."""
    agent = coordinator.agent()
    running = coordinator.ask()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(coordinator.dispatcher.drain(grace_s=60))
        await asyncio.sleep(0)

        assert await code_of(coordinator.ask()) == "draining"
        assert not draining.done()
        agent.done("j1")

    assert await end_of(running) == DONE


async def test_draining_ends_what_its_grace_was_too_short_for(coordinator: Coordinator) -> None:
    """With an error of its own, so that no client takes what it has for the whole."""
    agent = coordinator.agent(slots=1)
    running, waiting = coordinator.ask(), coordinator.ask()

    async with asyncio.timeout(5):
        await coordinator.dispatcher.drain(grace_s=0.001)

    assert (await code_of(running), await code_of(waiting)) == ("draining", "draining")
    assert agent.cancels == ["j1"]
    agent.fail("j1", "cancelled")
    assert len(agent.jobs) == 1  # the slot that it frees is for nobody


# --- the queue ---------------------------------------------------------------------------


async def test_waiting_jobs_are_served_in_the_order_of_arrival(coordinator: Coordinator) -> None:
    """Each freed slot goes to whoever came first (field note 73)."""
    agent = coordinator.agent(slots=1)
    for _ in range(4):
        coordinator.ask()

    for job_id in ("j1", "j2", "j3", "j4"):
        agent.done(job_id)

    assert [job.job_id for job in agent.jobs] == ["j1", "j2", "j3", "j4"]


async def test_a_job_of_one_model_does_not_hold_up_those_of_another(coordinator: Coordinator) -> None:
    """One stuck model must not hang requests to healthy ones (field note 73)."""
    coordinator.agent("a", "m", slots=1)
    other = coordinator.agent("b", "n", slots=1)
    coordinator.ask("m")
    coordinator.ask("n")
    stuck, waiting = coordinator.ask("m"), coordinator.ask("n")

    other.done("j2")

    assert (waits(stuck), waiting.agent) == (True, "b")


async def test_a_new_job_does_not_overtake_those_that_wait(coordinator: Coordinator) -> None:
    """The slot that frees is already given away when it asks."""
    agent = coordinator.agent(slots=1)
    coordinator.ask()
    first = coordinator.ask()

    agent.done("j1")
    second = coordinator.ask()

    assert (first.agent, waits(second)) == ("a", True)


async def test_an_agent_that_joins_serves_those_that_wait(coordinator: Coordinator) -> None:
    """As soon as it says what it has."""
    coordinator.agent("a", slots=1)
    coordinator.ask()
    waiting = coordinator.ask()

    coordinator.agent("b")

    assert waiting.agent == "b"


async def test_new_capabilities_serve_those_that_wait(coordinator: Coordinator) -> None:
    """The operator has allowed more jobs at once."""
    agent = coordinator.agent(slots=1)
    coordinator.ask()
    waiting = coordinator.ask()

    agent.offer(offer("m"), slots=2)

    assert waiting.agent == "a"


async def test_a_client_that_leaves_the_queue_leaves_no_trace(coordinator: Coordinator) -> None:
    """No agent hears of it, and nobody else's job is hit (field note 70)."""
    agent = coordinator.agent(slots=1)
    coordinator.ask()
    leaving, staying = coordinator.ask(), coordinator.ask()

    coordinator.leave(leaving)
    agent.done("j1")

    assert staying.agent == "a"
    assert agent.cancels == []
    assert [job.job_id for job in agent.jobs] == ["j1", "j3"]


async def test_a_job_keeps_waiting_when_its_model_goes_away_for_a_moment(coordinator: Coordinator) -> None:
    """An agent that restarts is back within its time (field note 67)."""
    agent = coordinator.agent(slots=1)
    coordinator.ask()
    waiting = coordinator.ask()

    agent.leave()
    coordinator.agent("a", slots=2)

    assert waiting.agent == "a"


# --- cancels -----------------------------------------------------------------------------


async def test_a_client_that_leaves_cancels_its_job_at_once(coordinator: Coordinator) -> None:
    """In the same step, so well within 50 ms (field note 70)."""
    agent = coordinator.agent()
    answer = coordinator.ask()

    coordinator.leave(answer)

    assert JobCancel(job_id="j1", reason="client_gone") == agent.session.posted[-1]


async def test_a_cancelled_job_keeps_its_slot_until_the_agent_says_so(coordinator: Coordinator) -> None:
    """The engine may still work on it (field note 6)."""
    agent = coordinator.agent(slots=1)
    coordinator.leave(coordinator.ask())
    waiting = coordinator.ask()

    assert waits(waiting)

    agent.fail("j1", "cancelled")

    assert waiting.agent == "a"


async def test_a_cancel_without_an_answer_frees_its_slot_after_a_while(coordinator: Coordinator) -> None:
    """Protocol 2 is silent about it."""
    agent = coordinator.agent(slots=1, protocol=2)
    coordinator.leave(coordinator.ask())
    waiting = coordinator.ask()

    assert coordinator.dispatcher.expire() == 10.0
    coordinator.clock.advance(10)
    coordinator.dispatcher.expire()

    assert waiting.agent == "a"
    agent.fail("j1", "cancelled")
    assert list(agent.provider.jobs) == ["j2"]


async def test_a_client_that_leaves_after_the_end_cancels_nothing(coordinator: Coordinator) -> None:
    """The slot is free already, and freed once (field note 2)."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.done("j1")

    coordinator.leave(answer)

    assert (agent.cancels, agent.provider.jobs) == ([], {})


async def test_a_client_that_leaves_at_the_end_mark_has_its_whole_answer(coordinator: Coordinator) -> None:
    """Many clients hang up there, before the agent's outcome is here: that is no cancel."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"data: {}\n\ndata: [DONE]\n\n")
    await answer.read()

    coordinator.leave(answer)
    agent.done("j1")

    assert (agent.cancels, agent.provider.jobs) == ([], {})
    assert await answer.read() == DONE


async def test_bytes_of_a_cancelled_job_are_late(coordinator: Coordinator) -> None:
    """They are counted, and go nowhere."""
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.chunk("j1", b"x")
    coordinator.leave(answer)

    agent.chunk("j1", b"y")
    agent.start("j1")

    assert coordinator.dispatcher.late_frames == 2
    assert answer.total_bytes == 1


# --- time and telling --------------------------------------------------------------------


async def test_watch_ends_a_wait_when_its_time_has_come() -> None:
    """By itself, on the clock of the loop."""
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(DispatchLimits(queue_max_wait_s=0.01), clock=loop.time)
    FakeAgent(dispatcher, "a", "m", slots=0)
    watching = loop.create_task(dispatcher.watch())

    async with asyncio.timeout(5):
        with dispatcher.run(JobRequest("m", CHAT, b"{}", stream=False)) as answer:
            assert isinstance(await answer.read(), Failed)

    watching.cancel()
    await asyncio.wait([watching])


async def test_the_view_counts_what_is_there(coordinator: Coordinator) -> None:
    """Derived from the fleet and the queue, so it cannot be wrong for long."""
    coordinator.agent("a", "m", "n", slots=2)
    for _ in range(3):
        coordinator.ask()

    view = coordinator.dispatcher.view()

    assert (
        view.agents,
        view.models,
        view.free_slots,
        view.running_jobs,
        view.waiting_jobs,
    ) == (1, 2, 0, 2, 1)


async def test_the_slots_in_view_are_those_of_models(coordinator: Coordinator) -> None:
    """An agent whose engine is away, or smaller than its own limit, takes no more for being there."""
    agent = coordinator.agent("a", "m", slots=8)

    agent.offer(offer("m", max_concurrent=3), slots=8)
    few = coordinator.dispatcher.view().free_slots
    agent.offer(slots=8)

    assert (few, coordinator.dispatcher.view().free_slots) == (3, 0)


async def test_what_happens_is_told_in_order(coordinator: Coordinator) -> None:
    """One record for each step that somebody may want to count."""
    agent = coordinator.agent()
    coordinator.ask()
    agent.done("j1")
    agent.leave()

    assert [
        events.AgentJoined,
        events.CapabilitiesTaken,
        events.JobDispatched,
        events.AttemptEnded,
        events.JobEnded,
        events.AgentLeft,
    ] == [type(event) for event in coordinator.events]
    assert events.AttemptEnded("j1", "a", None, 1, 2) == coordinator.events[3]


async def test_every_attempt_is_told_once_however_it_ended(coordinator: Coordinator) -> None:
    """By its outcome, by the end of its session, or by its time."""
    agent = coordinator.agent(slots=3)
    answers = [coordinator.ask() for _ in range(3)]
    agent.fail("j1", "bad_request")
    coordinator.leave(answers[1])
    coordinator.clock.advance(10)
    coordinator.dispatcher.expire()
    agent.fail("j2", "cancelled")
    agent.leave()

    ended = [event for event in coordinator.events if isinstance(event, events.AttemptEnded)]
    assert [(event.job_id, event.code) for event in ended] == [
        ("j1", "bad_request"),
        ("j2", "cancelled"),
        ("j3", "session_lost"),
    ]
