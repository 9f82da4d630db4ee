"""Jobs as the demo sees them, from events."""

from typing import Any

from provider_agent.cli.demo_jobs import Finished, Jobs


def dispatched(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, "model_id": "a", "agent": "demo", "attempt": 1, "waited_s": 0.0}


def ended(job_id: str, code: str | None = None) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "model_id": "a",
        "endpoint": "/v1/chat/completions",
        "client": "",
        "agent": "demo",
        "code": code,
        "attempts": 1,
        "first_byte_s": 0.5,
        "duration_s": 2.5,
        "answer_bytes": 100,
    }


def test_a_job_is_followed_from_its_dispatch_to_its_end() -> None:
    """With its tokens and its speed after the first byte."""
    jobs = Jobs()
    jobs.take("job_dispatched", dispatched("1"))
    assert (jobs.running, jobs.served) == (1, 0)
    jobs.take("attempt_ended", {"job_id": "1", "code": None, "output_tokens": 80})

    finished = jobs.take("job_ended", ended("1"))

    assert finished == Finished("1", "a", None, 80, 0.5, 2.5)
    assert finished.tokens_per_s == 40.0
    assert (jobs.running, jobs.served, jobs.failed, jobs.ended) == (0, 1, 0, 1)


def test_a_job_that_fails_is_counted_as_failed() -> None:
    """It has no speed."""
    jobs = Jobs()
    finished = jobs.take("job_ended", ended("1", "out_of_capacity"))

    assert finished is not None
    assert (finished.code, finished.tokens, finished.tokens_per_s) == ("out_of_capacity", None, None)
    assert (jobs.served, jobs.failed) == (0, 1)


def test_a_job_that_is_dispatched_twice_runs_once() -> None:
    """The second attempt belongs to the same job."""
    jobs = Jobs()
    jobs.take("job_dispatched", dispatched("1"))
    jobs.take("job_dispatched", dispatched("1"))

    assert jobs.running == 1


def test_nothing_is_remembered_of_jobs_that_are_over() -> None:
    """An agent confirms a cancel after its client has left."""
    jobs = Jobs()
    jobs.take("job_dispatched", dispatched("1"))
    jobs.take("job_ended", ended("1", "cancelled"))
    jobs.take("attempt_ended", {"job_id": "1", "code": "cancelled", "output_tokens": 3})

    finished = jobs.take("job_ended", ended("1"))

    assert finished is not None
    assert finished.tokens is None


def test_other_events_say_nothing_about_jobs() -> None:
    """Agents come and go."""
    assert Jobs().take("agent_joined", {"provider_id": "x"}) is None
