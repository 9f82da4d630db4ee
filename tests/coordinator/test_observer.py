"""What happened becomes metrics and named events."""

from provider_agent.coordinator.events import (
    AgentAway,
    AgentBack,
    AgentJoined,
    AttemptEnded,
    CapabilitiesTaken,
    Event,
    HandshakeEnded,
    JobDispatched,
    JobEnded,
    SessionEnded,
)
from provider_agent.coordinator.observer import Observer
from provider_agent.telemetry.metrics import CoordinatorMetrics, CoordinatorView


def observe(*events: Event) -> tuple[list[tuple[str, dict[str, object]]], str]:
    """The named events, and the metrics as text."""
    metrics = CoordinatorMetrics(lambda: CoordinatorView(0, 0, 0, 0, 0))
    named: list[tuple[str, dict[str, object]]] = []
    observer = Observer(metrics, lambda name, fields: named.append((name, fields)))
    for event in events:
        observer.take(event)
    return named, metrics.render().decode()


def ended(code: str | None = None, status: int = 200, attempts: int = 1) -> JobEnded:
    """The end of a job."""
    return JobEnded(
        job_id="j1",
        model_id="m",
        endpoint="/v1/chat/completions",
        client="alice",
        agent="den",
        code=code,
        status=status,
        attempts=attempts,
        first_byte_s=0.1,
        duration_s=1.0,
        answer_bytes=7,
    )


def test_a_job_that_is_done_is_a_request_with_status_200() -> None:
    """With its bytes and tokens, from dispatch to end."""
    named, metrics = observe(
        JobDispatched("j1", "m", "den", 1, 0.0), AttemptEnded("j1", "den", None, 3, 5), ended()
    )

    assert [name for name, _ in named] == ["job_dispatched", "attempt_ended", "job_ended"]
    assert 'requests_total{endpoint="/v1/chat/completions",status="200"} 1.0' in metrics
    assert 'attempts_total{outcome="done"} 1.0' in metrics
    assert 'tokens_total{direction="output"} 5.0' in metrics
    assert "relayed_bytes_total 7.0" in metrics
    assert 'queue_wait_seconds_count{result="dispatched"} 1.0' in metrics


def test_the_status_is_what_the_client_saw() -> None:
    """Whatever the code is: after the first byte an error does not change it any more."""
    _, metrics = observe(ended("stream_truncated"), ended("stream_truncated", 502))

    assert 'status="200"} 1.0' in metrics
    assert 'status="502"} 1.0' in metrics


def test_a_job_that_never_left_the_queue_waited_all_its_time() -> None:
    """It was refused, or its client left."""
    metrics = observe(ended("out_of_capacity", 429, attempts=0), ended("cancelled", 499, attempts=0))[1]

    assert 'queue_wait_seconds_count{result="refused"} 1.0' in metrics
    assert 'queue_wait_seconds_count{result="cancelled"} 1.0' in metrics


def test_a_second_attempt_did_not_wait_in_the_queue_again() -> None:
    """What passed since its arrival is the first agent's time."""
    metrics = observe(JobDispatched("j1", "m", "den", 2, 9.0))[1]

    assert "queue_wait_seconds_count" not in metrics


def test_sessions_and_handshakes_are_counted() -> None:
    """By code."""
    metrics = observe(HandshakeEnded("ok"), SessionEnded(4001))[1]

    assert 'handshakes_total{result="ok"} 1.0' in metrics
    assert 'agent_sessions_total{end="4001"} 1.0' in metrics


def test_who_comes_is_named_and_not_counted() -> None:
    """Who is present is read from the fleet."""
    named, _ = observe(
        AgentJoined("p-1"),
        CapabilitiesTaken("p-1", "den", ("m",)),
        AgentAway("p-1", "den"),
        AgentBack("p-1", "den"),
    )

    assert named == [
        ("agent_joined", {"provider_id": "p-1"}),
        ("capabilities_taken", {"provider_id": "p-1", "name": "den", "models": ("m",)}),
        ("agent_away", {"provider_id": "p-1", "name": "den"}),
        ("agent_back", {"provider_id": "p-1", "name": "den"}),
    ]
