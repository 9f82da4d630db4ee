"""Connections that break while an agent is let in: it cannot know the session that it was just given."""

from provider_agent.coordinator.answer import DONE
from provider_agent.protocol.frames import PROTOCOL, Resume, ResumeJob
from tests.fakes.agents import Coordinator, RecordingSession, code_of, now

LISTED = ResumeJob(job_id="j1", attempt=1, next_seq=1)


def unread_welcome(coordinator: Coordinator, named: str, session_id: str) -> bool:
    """The agent dials, names a session, and its connection breaks; whether its job was welcome."""
    session = RecordingSession(session_id)
    resume = Resume(session_id=named, jobs=(LISTED,))
    provider, resumed = coordinator.dispatcher.join("a", session, PROTOCOL, resume)
    coordinator.dispatcher.part(provider, session, resumable=True)
    assert resumed is not None
    return bool(resumed.jobs)


async def test_an_agent_whose_welcome_was_lost_still_resumes() -> None:
    """It names the session before, again and again, until a welcome reaches it."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.start("j1")
    agent.chunk("j1", b"half")
    agent.break_off()
    welcome = [unread_welcome(coordinator, "s", f"unread-{number}") for number in range(3)]
    agent = agent.return_with(LISTED)
    agent.chunk("j1", b" and half")
    agent.done("j1")

    assert welcome == [True] * 3
    assert await now(answer) == b"half and half"
    assert await now(answer) is DONE
    coordinator.close()


async def test_an_agent_whose_answer_to_its_welcome_was_lost_resumes_from_there() -> None:
    """It has read the welcome, and nobody heard so: both names are good."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    coordinator.ask()
    agent.start("j1")
    agent.chunk("j1", b"half")
    agent.break_off()

    assert unread_welcome(coordinator, "s", "read-after-all")
    assert unread_welcome(coordinator, "read-after-all", "s3")
    coordinator.close()


async def test_a_session_before_one_that_served_means_nothing() -> None:
    """Who says what it serves has read its welcome; who then names an older session is not the same."""
    coordinator = Coordinator()
    agent = coordinator.agent()
    answer = coordinator.ask()
    agent.start("j1")
    agent.chunk("j1", b"half")
    assert await now(answer) == b"half"
    agent.break_off()
    agent = agent.return_with(LISTED)
    agent.break_off()

    assert not unread_welcome(coordinator, "s", "s3")
    assert await code_of(answer) == "session_lost"
    coordinator.close()
