"""Jobs take the steps of the table and no others."""

import itertools
from dataclasses import replace

import pytest
from msgspec import Raw

from provider_agent.coordinator.answer import DONE, Answer
from provider_agent.coordinator.failures import failed
from provider_agent.coordinator.fleet import Provider
from provider_agent.coordinator.jobs import (
    LEGACY_DEADLINE_MS,
    MESSAGES,
    TRANSITIONS,
    IllegalStep,
    Job,
    JobRequest,
    JobState,
)
from provider_agent.protocol import frames
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Format
from provider_agent.protocol.window import Arrival
from tests.fakes.agents import CHAT, RecordingSession

REQUEST = JobRequest("m", CHAT, b'{"model":"m"}', stream=True, client="ann")


def job(state: JobState = JobState.QUEUED) -> Job:
    answer = Answer("j", 1000)
    return Job("j", REQUEST, answer, arrival=1, arrived_s=10.0, waits_until_s=40.0, state=state)


def provider(protocol: int = 3) -> Provider:
    return Provider("a", RecordingSession(), protocol=protocol)


def test_a_job_goes_from_the_queue_to_its_end() -> None:
    """The ordinary way."""
    one = job()

    one.give(provider(), 7)
    for step in (JobState.STARTED, JobState.STREAMING, JobState.DONE):
        one.step(step)

    assert one.is_over
    assert repr(one) == "<Job j done at a, attempt 1>"


@pytest.mark.parametrize(("state", "step"), list(itertools.product(JobState, JobState)))
def test_only_the_steps_of_the_table_are_taken(state: JobState, step: JobState) -> None:
    """Every other one raises, and the job stays as it is."""
    one = job(state)

    if step in TRANSITIONS[state]:
        one.step(step)
        assert step is one.state
    else:
        with pytest.raises(IllegalStep):
            one.step(step)
        assert state is one.state


def test_an_illegal_step_names_job_state_and_step() -> None:
    """It is a defect of ours, so the sentence is for us."""
    with pytest.raises(IllegalStep) as caught:
        job(JobState.DONE).step(JobState.STREAMING)

    assert str(caught.value) == "job j may not become streaming while done"


def test_nothing_follows_an_end() -> None:
    """A job ends once."""
    assert {JobState.DONE, JobState.FAILED, JobState.CANCELLED} == {
        state for state, following in TRANSITIONS.items() if not following
    }


def test_each_attempt_has_the_next_number_and_counts_its_chunks_anew() -> None:
    """So an agent can tell a new attempt from a repeated frame (I4)."""
    one = job()
    one.give(provider(), 7)
    one.inflow.receive(0, 5)

    one.take_back(failed(ErrorCode.INTERNAL, "no"))
    one.give(provider(), 8)

    assert (one.attempt, one.stream_id, one.inflow.have_seq) == (2, 8, -1)


def test_what_an_attempt_left_behind_is_forgotten() -> None:
    """The next agent's answer must not be appended to it (field note 80)."""
    one = job()
    one.give(provider(), 7)
    one.answer.start(201, "text/plain")
    one.answer.feed(b"half")
    one.first_byte_s = 11.0

    one.take_back(failed(ErrorCode.INTERNAL, "no"))

    assert (one.answer.total_bytes, one.answer.http_status) == (0, 200)
    assert one.provider is None
    assert one.first_byte_s is None


def test_the_frame_carries_the_request_as_it_came() -> None:
    """Byte for byte (field note 35), with no limit that the client did not ask for."""
    one = job()
    one.give(provider(), 7)

    assert one.frame() == frames.Job(
        job_id="j",
        model_id="m",
        request=Raw(REQUEST.body),
        endpoint=CHAT,
        stream=True,
        attempt=1,
        stream_id=7,
        window_bytes=256 * 1024,
    )


def test_messages_are_told_by_their_format_as_well() -> None:
    """Older agents read nothing else."""
    one = job()
    one.request = replace(REQUEST, endpoint=MESSAGES)

    assert (one.frame().endpoint, one.frame().format) == ("/v1/messages", Format.ANTHROPIC)


def test_a_protocol_2_agent_is_told_a_long_deadline() -> None:
    """It would take one minute if nothing was said, and cut long answers."""
    one = job()
    one.give(provider(protocol=2), 7)

    assert one.frame().deadline_ms == LEGACY_DEADLINE_MS


def test_a_protocol_2_agent_has_no_window() -> None:
    """It hears of no acks, so whatever it sends is taken; only its client's patience bounds it."""
    one = job()
    one.give(provider(protocol=2), 7)

    assert (one.frame().window_bytes, one.frame().stream_id) == (None, None)
    assert Arrival.NEXT is one.inflow.receive(0, 1024**3)


def test_the_record_of_a_job_counts_from_its_arrival() -> None:
    """Waiting is a part of what the client saw."""
    one = job()
    one.give(provider(), 7)
    one.first_byte_s = 12.0
    one.answer.feed(b"12345")

    ended = one.ended(DONE, now_s=15.0)

    assert (
        ended.first_byte_s,
        ended.duration_s,
        ended.answer_bytes,
        ended.code,
        ended.client,
        ended.agent,
    ) == (2.0, 5.0, 5, None, "ann", "a")
    assert one.ended(failed(ErrorCode.CANCELLED, ""), now_s=15.0).code == "cancelled"
