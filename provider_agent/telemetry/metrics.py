"""Every metric that the two programs show to Prometheus, by name; knows no HTTP and measures nothing.

What can be derived (jobs running, free slots, backends' health) is read from a view when somebody asks,
never counted beside its owner. Labels have few values: a code or status that a peer made up is `other`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.vitals import BackendStatus

CONTENT_TYPE = CONTENT_TYPE_LATEST

DONE = "done"
OTHER = "other"

_CODES = frozenset(code.value for code in ErrorCode) | {DONE}

_DURATION_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_BYTE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class AgentView:
    """How an agent is at this moment."""

    session_up: bool
    active_jobs: int
    max_concurrent: int
    draining: bool
    models: int
    backends: tuple[BackendStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class CoordinatorView:
    """How a coordinator is at this moment; `waiting_jobs` have no agent yet."""

    agents: int
    models: int
    free_slots: int
    running_jobs: int
    waiting_jobs: int


class _Views(Collector):
    """Asks for the view at each scrape."""

    def __init__(self, gauges: Callable[[], Iterator[Metric]]) -> None:
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        return []  # so that registering does not ask yet

    def collect(self) -> Iterator[Metric]:
        return self._gauges()


M = TypeVar("M", Counter, Histogram)


class _Children(Generic[M]):
    """A metric with labels, which remembers its children: to look one up costs as much as to count it."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class _Metrics:
    """A registry of one program."""

    def __init__(self, prefix: str, gauges: Callable[[], Iterator[Metric]]) -> None:
        self._prefix = prefix
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Views(gauges))

    def render(self) -> bytes:
        """All metrics in the text format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"{self._prefix}_{name}", text, registry=self._registry)

    def _counters(self, name: str, text: str, *labels: str) -> "_Children[Counter]":
        return _Children(Counter(f"{self._prefix}_{name}", text, labels, registry=self._registry))

    def _histograms(
        self, name: str, text: str, label: str, buckets: tuple[float, ...]
    ) -> "_Children[Histogram]":
        return _Children(
            Histogram(f"{self._prefix}_{name}", text, (label,), registry=self._registry, buckets=buckets)
        )

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)


class AgentMetrics(_Metrics):
    """What an agent shows on its status page; `view` is called at each scrape."""

    def __init__(self, view: Callable[[], AgentView]) -> None:
        super().__init__("provider_agent", self._gauges)
        self._view = view
        self._jobs = self._counters("jobs", "Jobs by outcome: done, or an error code", "outcome", "backend")
        self._duration = self._histograms(
            "job_duration_seconds", "From a job's frame to its outcome", "outcome", _DURATION_S
        )
        self._first_byte = self._histograms(
            "job_first_byte_seconds",
            "From a job's frame to its engine's first byte",
            "backend",
            _FIRST_BYTE_S,
        )
        self._tokens = self._counters("tokens", "Tokens that engines counted", "direction")
        self._bytes = self._counter("relayed_bytes", "Bytes of answers that were relayed")
        self._dials = self._counters("dials", "Attempts to reach the coordinator, by result", "result")
        self._sessions = self._counters(
            "sessions", "Authenticated sessions that ended, by kind of end", "end"
        )
        self._catalog_changes = self._counter("catalog_changes", "Changes of what this agent offers")

    def job_ended(
        self,
        *,
        code: str | None,
        backend: str,
        duration_s: float,
        first_byte_s: float | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        relayed_bytes: int = 0,
    ) -> None:
        """One job has its outcome; `code` None is done, `backend` "" is a refusal."""
        outcome = _outcome(code)
        self._jobs.labels(outcome, backend).inc()
        self._duration.labels(outcome).observe(duration_s)
        if first_byte_s is not None:
            self._first_byte.labels(backend).observe(first_byte_s)
        _add_tokens(self._tokens, input_tokens, output_tokens)
        self._bytes.inc(relayed_bytes)

    def dialled(self, result: str) -> None:
        """One dial ended: `ok`, or the kind of its failure."""
        self._dials.labels(result).inc()

    def session_ended(self, end: str) -> None:
        """One authenticated session ended; `end` is the kind that the connector found."""
        self._sessions.labels(end).inc()

    def catalog_changed(self) -> None:
        self._catalog_changes.inc()

    def _gauges(self) -> Iterator[Metric]:
        view = self._view()
        yield self._gauge("session_up", "1 while a session with the coordinator is up", view.session_up)
        yield self._gauge("active_jobs", "Jobs running now", view.active_jobs)
        yield self._gauge("max_concurrent", "Jobs that may run at once", view.max_concurrent)
        yield self._gauge("draining", "1 while no new jobs are taken", view.draining)
        yield self._gauge("models", "Models on offer", view.models)
        healthy = GaugeMetricFamily(
            "provider_agent_backend_healthy", "1 while the backend answers", labels=("backend", "kind")
        )
        active = GaugeMetricFamily(
            "provider_agent_backend_active_jobs", "Jobs running on the backend", labels=("backend", "kind")
        )
        for backend in view.backends:
            healthy.add_metric((backend.name, backend.kind), backend.healthy)
            active.add_metric((backend.name, backend.kind), backend.active_jobs)
        yield healthy
        yield active


class CoordinatorMetrics(_Metrics):
    """What a coordinator shows at `/metrics`; `view` is called at each scrape."""

    def __init__(self, view: Callable[[], CoordinatorView]) -> None:
        super().__init__("provider_coordinator", self._gauges)
        self._view = view
        self._requests = self._counters(
            "requests", "Requests of clients by endpoint and HTTP status", "endpoint", "status"
        )
        self._duration = self._histograms(
            "request_duration_seconds", "From a request to the end of its answer", "endpoint", _DURATION_S
        )
        self._first_byte = self._histograms(
            "request_first_byte_seconds",
            "From a request to its agent's first byte",
            "endpoint",
            _FIRST_BYTE_S,
        )
        self._attempts = self._counters(
            "attempts", "Dispatches of jobs to agents, by outcome: done, or an error code", "outcome"
        )
        self._queue_wait = self._histograms(
            "queue_wait_seconds", "How long jobs waited for a free slot", "result", _DURATION_S
        )
        self._tokens = self._counters("tokens", "Tokens that engines counted", "direction")
        self._bytes = self._counter("relayed_bytes", "Bytes of answers that were relayed to clients")
        self._handshakes = self._counters("handshakes", "Handshakes with agents, by result", "result")
        self._sessions = self._counters(
            "agent_sessions", "Sessions of agents that ended, by close code", "end"
        )

    def request_ended(
        self,
        *,
        endpoint: str,
        status: int,
        duration_s: float,
        first_byte_s: float | None = None,
        relayed_bytes: int = 0,
    ) -> None:
        """One client has its answer; `endpoint` is one of our routes, never the path as it came."""
        self._requests.labels(endpoint, str(status)).inc()
        self._duration.labels(endpoint).observe(duration_s)
        if first_byte_s is not None:
            self._first_byte.labels(endpoint).observe(first_byte_s)
        self._bytes.inc(relayed_bytes)

    def attempt_ended(
        self, *, code: str | None, input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """One dispatch to an agent has its outcome; `code` None is done."""
        self._attempts.labels(_outcome(code)).inc()
        _add_tokens(self._tokens, input_tokens, output_tokens)

    def waited(self, result: str, duration_s: float) -> None:
        """A job left the queue: `dispatched`, `refused` or `cancelled`."""
        self._queue_wait.labels(result).observe(duration_s)

    def handshake_ended(self, result: str) -> None:
        """`ok`, or a code of `auth_failed`, or `timeout`."""
        self._handshakes.labels(result).inc()

    def session_ended(self, close_code: int | None) -> None:
        """An agent's session ended; None is a connection that broke."""
        self._sessions.labels(str(close_code) if close_code in _CLOSE_CODES else OTHER).inc()

    def _gauges(self) -> Iterator[Metric]:
        view = self._view()
        yield self._gauge("agents", "Agents present", view.agents)
        yield self._gauge("models", "Models on offer", view.models)
        yield self._gauge("free_slots", "Jobs that agents could take now", view.free_slots)
        yield self._gauge("running_jobs", "Jobs that are with an agent", view.running_jobs)
        yield self._gauge("waiting_jobs", "Jobs that wait for a free slot", view.waiting_jobs)


_CLOSE_CODES = frozenset({None, 1000, 1001, 1006, 1009, 1011, 4001, 4002, 4003, 4008})


def _outcome(code: str | None) -> str:
    if code is None:
        return DONE
    return code if code in _CODES else OTHER


def _add_tokens(counter: _Children[Counter], input_tokens: int | None, output_tokens: int | None) -> None:
    if input_tokens is not None:
        counter.labels("input").inc(input_tokens)
    if output_tokens is not None:
        counter.labels("output").inc(output_tokens)
