"""Names and values that Prometheus sees."""

import re
from dataclasses import replace

from provider_agent.protocol.vitals import BackendStatus
from provider_agent.telemetry.metrics import (
    CONTENT_TYPE,
    AgentMetrics,
    AgentView,
    CoordinatorMetrics,
    CoordinatorView,
)

AGENT = AgentView(session_up=True, active_jobs=2, max_concurrent=8, draining=False, models=3)
COORDINATOR = CoordinatorView(agents=2, models=3, free_slots=5, running_jobs=7, waiting_jobs=1)


def samples(rendered: bytes) -> dict[str, float]:
    """Every sample by its name with labels."""
    lines = [line for line in rendered.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_job_is_counted_by_its_outcome() -> None:
    """Outcome, backend, time, tokens and bytes all come from one call."""
    metrics = AgentMetrics(lambda: AGENT)
    metrics.job_ended(
        code=None,
        backend="ollama",
        duration_s=2.0,
        first_byte_s=0.2,
        input_tokens=10,
        output_tokens=20,
        relayed_bytes=300,
    )
    metrics.job_ended(code="out_of_capacity", backend="", duration_s=0.0)

    seen = samples(metrics.render())
    assert seen['provider_agent_jobs_total{backend="ollama",outcome="done"}'] == 1
    assert seen['provider_agent_jobs_total{backend="",outcome="out_of_capacity"}'] == 1
    assert seen['provider_agent_job_duration_seconds_sum{outcome="done"}'] == 2
    assert seen['provider_agent_job_first_byte_seconds_sum{backend="ollama"}'] == 0.2
    assert seen['provider_agent_tokens_total{direction="output"}'] == 20
    assert seen["provider_agent_relayed_bytes_total"] == 300


def test_a_job_that_moved_is_counted_at_the_engine_that_failed_it() -> None:
    """Else nobody sees that others save its jobs."""
    metrics = AgentMetrics(lambda: AGENT)
    metrics.job_moved("ollama", "backend_error")
    metrics.job_moved("ollama", "made up")

    seen = samples(metrics.render())
    assert seen['provider_agent_jobs_moved_total{backend="ollama",code="backend_error"}'] == 1
    assert seen['provider_agent_jobs_moved_total{backend="ollama",code="other"}'] == 1


def test_a_duration_counts_in_its_bucket_and_in_all_larger_ones() -> None:
    """A bucket's bound belongs to it; what is beyond all bounds is in the last one."""
    metrics = AgentMetrics(lambda: AGENT)
    for duration_s in (0.05, 0.2, 700.0):
        metrics.job_ended(code=None, backend="a", duration_s=duration_s)

    seen = samples(metrics.render())
    bucket = 'provider_agent_job_duration_seconds_bucket{{le="{}",outcome="done"}}'
    assert [seen[bucket.format(bound)] for bound in ("0.05", "0.1", "0.25", "600.0", "+Inf")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert seen['provider_agent_job_duration_seconds_count{outcome="done"}'] == 3


def test_unknown_usage_is_not_counted_as_zero_tokens() -> None:
    """Where no engine counted, there is no sample at all (field note 14)."""
    metrics = AgentMetrics(lambda: AGENT)
    metrics.job_ended(code=None, backend="a", duration_s=1)

    assert "provider_agent_tokens_total{" not in metrics.render().decode()


def test_gauges_show_the_moment_of_the_scrape() -> None:
    """Nothing is counted beside its owner: the view is asked each time."""
    now = [AGENT]
    metrics = AgentMetrics(lambda: now[0])
    before = samples(metrics.render())
    now[0] = replace(
        AGENT,
        session_up=False,
        active_jobs=0,
        draining=True,
        paused="outside active hours",
        backends=(BackendStatus(name="gpu", kind="vllm", healthy=False, active_jobs=0),),
    )
    after = samples(metrics.render())

    assert before["provider_agent_active_jobs"] == 2
    assert before["provider_agent_session_up"] == 1
    assert after["provider_agent_session_up"] == 0
    assert after["provider_agent_draining"] == 1
    assert (before["provider_agent_paused"], after["provider_agent_paused"]) == (0, 1)
    assert after['provider_agent_backend_healthy{backend="gpu",kind="vllm"}'] == 0


def test_sessions_dials_and_catalogs_are_counted() -> None:
    """What the connector and discovery report."""
    metrics = AgentMetrics(lambda: AGENT)
    metrics.dialled("ok")
    metrics.dialled("refused")
    metrics.session_ended("network")
    metrics.catalog_changed()

    seen = samples(metrics.render())
    assert seen['provider_agent_dials_total{result="refused"}'] == 1
    assert seen['provider_agent_sessions_total{end="network"}'] == 1
    assert seen["provider_agent_catalog_changes_total"] == 1


def test_two_registries_do_not_share_anything() -> None:
    """The demo runs an agent and a coordinator in one process, the tests many."""
    first, second = AgentMetrics(lambda: AGENT), AgentMetrics(lambda: AGENT)
    first.catalog_changed()

    assert samples(second.render())["provider_agent_catalog_changes_total"] == 0


def test_a_coordinator_counts_requests_and_attempts() -> None:
    """A request may take several attempts."""
    metrics = CoordinatorMetrics(lambda: COORDINATOR)
    metrics.attempt_ended(code="backend_unreachable")
    metrics.attempt_ended(code=None, input_tokens=1, output_tokens=2)
    metrics.request_ended(
        endpoint="/v1/chat/completions", status=200, duration_s=3, first_byte_s=1, relayed_bytes=9
    )
    metrics.waited("dispatched", 0.5)
    metrics.handshake_ended("ok")
    metrics.session_ended(1001)
    metrics.session_ended(3999)

    seen = samples(metrics.render())
    assert seen['provider_coordinator_attempts_total{outcome="backend_unreachable"}'] == 1
    assert seen['provider_coordinator_requests_total{endpoint="/v1/chat/completions",status="200"}'] == 1
    assert seen['provider_coordinator_tokens_total{direction="input"}'] == 1
    assert seen['provider_coordinator_queue_wait_seconds_count{result="dispatched"}'] == 1
    assert seen['provider_coordinator_agent_sessions_total{end="1001"}'] == 1
    assert seen['provider_coordinator_agent_sessions_total{end="other"}'] == 1
    assert seen["provider_coordinator_free_slots"] == 5
    assert seen["provider_coordinator_waiting_jobs"] == 1


def test_a_peer_cannot_invent_label_values() -> None:
    """Error codes of agents are text; a thousand made-up ones are one series."""
    metrics = CoordinatorMetrics(lambda: COORDINATOR)
    for number in range(1000):
        metrics.attempt_ended(code=f"invented_{number}")

    assert samples(metrics.render())['provider_coordinator_attempts_total{outcome="other"}'] == 1000
    assert b"invented" not in metrics.render()


def test_the_format_is_the_one_that_the_content_type_names() -> None:
    """Each series has its help and type; the header says text."""
    text = AgentMetrics(lambda: AGENT).render().decode()

    assert CONTENT_TYPE.startswith("text/plain")
    assert re.search(r"^# HELP provider_agent_active_jobs \w", text, re.MULTILINE)
    assert re.search(r"^# TYPE provider_agent_active_jobs gauge$", text, re.MULTILINE)
