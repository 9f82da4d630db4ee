"""Every metric that the two programs show to Prometheus, by name; knows no HTTP and measures nothing.

What can be derived (jobs running, free slots, backends' health) is read from a view when somebody asks,
never counted beside its owner. Labels have few values: a code or status that a peer made up is `other`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
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
    """How an agent is at this moment; `paused` says why it takes no jobs for a while, if so."""

    session_up: bool
    active_jobs: int
    max_concurrent: int
    draining: bool
    models: int
    backends: tuple[BackendStatus, ...] = ()
    paused: str = ""
    why_no_session: str = ""


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


class _Counters(Collector):
    """A counter, with or without labels: a dictionary, since to count by the library costs ten times that."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def inc(self, *values: str, by: float = 1) -> None:
        """`values` are the labels', in their order."""
        self._counts[values] = self._counts.get(values, 0) + by

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


class _Histograms(Collector):
    """A histogram with one label. `bounds` are the largest values of its buckets, in order."""

    def __init__(self, name: str, text: str, label: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._label, self._bounds = name, text, label, bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, value: float, label: str) -> None:
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = [0] * len(self._names)
            self._sums[label] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=(self._label,))
        for label, counts in self._counts.items():
            buckets = list(zip(self._names, accumulate(counts), strict=True))
            family.add_metric((label,), buckets, self._sums[label])
        yield family


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

    def _counters(self, name: str, text: str, *labels: str) -> _Counters:
        counters = _Counters(f"{self._prefix}_{name}", text, labels)
        self._registry.register(counters)
        return counters

    def _histograms(self, name: str, text: str, label: str, bounds: tuple[float, ...]) -> _Histograms:
        histograms = _Histograms(f"{self._prefix}_{name}", text, label, bounds)
        self._registry.register(histograms)
        return histograms

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)


class AgentMetrics(_Metrics):
    """What an agent shows on its status page; `view` is called at each scrape."""

    def __init__(self, view: Callable[[], AgentView]) -> None:
        super().__init__("provider_agent", self._gauges)
        self._view = view
        self._jobs = self._counters("jobs", "Jobs by outcome: done, or an error code", "outcome", "backend")
        self._moves = self._counters(
            "jobs_moved", "Jobs that went on at another engine, by what failed", "code", "backend"
        )
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
        self._bytes = self._counters("relayed_bytes", "Bytes of answers that were relayed")
        self._dials = self._counters("dials", "Attempts to reach the coordinator, by result", "result")
        self._sessions = self._counters(
            "sessions", "Authenticated sessions that ended, by kind of end", "end"
        )
        self._catalog_changes = self._counters("catalog_changes", "Changes of what this agent offers")

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
        self._jobs.inc(outcome, backend)
        self._duration.observe(duration_s, outcome)
        if first_byte_s is not None:
            self._first_byte.observe(first_byte_s, backend)
        _add_tokens(self._tokens, input_tokens, output_tokens)
        self._bytes.inc(by=relayed_bytes)

    def job_moved(self, backend: str, code: str) -> None:
        """This backend failed a job, and another one went on with it."""
        self._moves.inc(_outcome(code), backend)

    def dialled(self, result: str) -> None:
        """One dial ended: `ok`, or the kind of its failure."""
        self._dials.inc(result)

    def session_ended(self, end: str) -> None:
        """One authenticated session ended; `end` is the kind that the connector found."""
        self._sessions.inc(end)

    def catalog_changed(self) -> None:
        self._catalog_changes.inc()

    def _gauges(self) -> Iterator[Metric]:
        view = self._view()
        yield self._gauge("session_up", "1 while a session with the coordinator is up", view.session_up)
        yield self._gauge("active_jobs", "Jobs running now", view.active_jobs)
        yield self._gauge("max_concurrent", "Jobs that may run at once", view.max_concurrent)
        yield self._gauge("draining", "1 while no new jobs are taken", view.draining)
        yield self._gauge("paused", "1 outside active hours, or while others use the GPU", bool(view.paused))
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
        self._bytes = self._counters("relayed_bytes", "Bytes of answers that were relayed to clients")
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
        self._requests.inc(endpoint, str(status))
        self._duration.observe(duration_s, endpoint)
        if first_byte_s is not None:
            self._first_byte.observe(first_byte_s, endpoint)
        self._bytes.inc(by=relayed_bytes)

    def attempt_ended(
        self, *, code: str | None, input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """One dispatch to an agent has its outcome; `code` None is done."""
        self._attempts.inc(_outcome(code))
        _add_tokens(self._tokens, input_tokens, output_tokens)

    def waited(self, result: str, duration_s: float) -> None:
        """A job left the queue: `dispatched`, `refused` or `cancelled`."""
        self._queue_wait.observe(duration_s, result)

    def handshake_ended(self, result: str) -> None:
        """`ok`, or a code of `auth_failed`, or `timeout`."""
        self._handshakes.inc(result)

    def session_ended(self, close_code: int | None) -> None:
        """An agent's session ended; None is a connection that broke."""
        self._sessions.inc(str(close_code) if close_code in _CLOSE_CODES else OTHER)

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


def _add_tokens(counter: _Counters, input_tokens: int | None, output_tokens: int | None) -> None:
    if input_tokens is not None:
        counter.inc("input", by=input_tokens)
    if output_tokens is not None:
        counter.inc("output", by=output_tokens)
