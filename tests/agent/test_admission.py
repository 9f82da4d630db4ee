"""Who may come in: permanent reasons before passing ones, and the load of a route only where it matters."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from provider_agent.agent.admission import ExecutorLimits, Situation, admit, free_routes
from provider_agent.agent.circuit import Block
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.pump import Pump
from provider_agent.agent.routing import Policy, Refusal, Route, RoutingTable
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Job
from provider_agent.transport.lane import Lane
from tests.fakes.backends import ScriptedBackend
from tests.fakes.executors import job

BIG = msgspec.Raw(b'{"prompt":"' + b"x" * 20 + b'"}')
NARROW = ExecutorLimits(max_concurrent=1, max_job_bytes=20)


def running_on(backend: ScriptedBackend) -> RunningJob:
    lane, route = Lane("r"), Route(backend, backend.models[0])
    return RunningJob(job("r"), lane, Pump(lane, clock=float, patience_s=1), route, started_s=0.0)


def judged(job: Job, running: Collection[RunningJob] = (), **situation: Any) -> Refusal | Route:
    backend = ScriptedBackend()
    table = RoutingTable(Catalog((CatalogEntry(backend, backend.models, healthy=True),)), Policy())
    return admit(job, table, NARROW, Situation(running, **situation))


def test_a_job_that_fits_gets_its_route() -> None:
    """The ordinary case."""
    route = judged(job())

    assert not isinstance(route, Refusal)
    assert route.backend.name == "scripted"


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (job(model_id="ghost", endpoint="/v1/rerank", request=BIG), ErrorCode.MODEL_NOT_LOADED),
        (job(endpoint="/v1/rerank", request=BIG), ErrorCode.UNSUPPORTED_ENDPOINT),
        (job(request=BIG), ErrorCode.REQUEST_TOO_LARGE),
        (job(), ErrorCode.DRAINING),
    ],
)
def test_the_most_lasting_reason_is_the_one_that_is_told(case: Job, code: ErrorCode) -> None:
    """All reasons at once: the order of I7 (field note 9)."""
    verdict = judged(case, [running_on(ScriptedBackend())], draining=True, budget_wait_s=1.0)

    assert isinstance(verdict, Refusal)
    assert verdict.code is code


def test_a_request_of_just_the_size_that_is_allowed_is_taken() -> None:
    """One byte more is too large."""
    exact = msgspec.Raw(b'{"prompt":"' + b"x" * 7 + b'"}')
    assert len(exact) == NARROW.max_job_bytes

    assert isinstance(judged(job(request=exact)), Route)


RESTING = Refusal(ErrorCode.OUT_OF_CAPACITY, "this agent rests until 22:00", retry_after_ms=60_000)


@pytest.mark.parametrize(
    ("case", "situation", "code"),
    [
        (job(model_id="ghost"), {}, ErrorCode.MODEL_NOT_LOADED),
        (job(request=BIG), {}, ErrorCode.REQUEST_TOO_LARGE),
        (job(), {"draining": True}, ErrorCode.DRAINING),
        (job(), {"budget_wait_s": 1.0}, ErrorCode.OUT_OF_CAPACITY),
        (job(), {}, ErrorCode.OUT_OF_CAPACITY),
    ],
)
def test_a_pause_is_told_after_what_lasts_longer_and_before_the_limit_of_tokens(
    case: Job, situation: dict[str, Any], code: ErrorCode
) -> None:
    """A model that nobody has is still unknown when the agent is back (field note 9)."""
    verdict = judged(case, paused=RESTING, **situation)

    assert isinstance(verdict, Refusal)
    assert verdict.code is code
    assert (verdict == RESTING) is (code is ErrorCode.OUT_OF_CAPACITY)


def test_the_limit_of_tokens_goes_before_the_slots_and_says_when_to_come_back() -> None:
    """A slot may be free in a second; the minute is not over then."""
    verdict = judged(job(), [running_on(ScriptedBackend())], budget_wait_s=1.2)

    assert verdict == Refusal(
        ErrorCode.RATE_LIMITED,
        "this agent has served all the tokens that its operator allows in a minute",
        retry_after_ms=1200,
    )


def test_a_full_agent_takes_nothing_on() -> None:
    """Its slots are counted by what runs, and by nothing else."""
    verdict = judged(job(), [running_on(ScriptedBackend())])

    assert isinstance(verdict, Refusal)
    assert verdict.code is ErrorCode.OUT_OF_CAPACITY


def test_the_limit_of_a_backend_counts_what_runs_there() -> None:
    """And not what runs elsewhere (field note 25)."""
    small, other = ScriptedBackend(name="small", max_concurrent=1), ScriptedBackend(name="other")
    routes = (Route(small, small.models[0]),)

    assert free_routes(routes, [running_on(other)], untold=8) == routes
    assert free_routes(routes, [running_on(small)], untold=8) == ()


def test_the_operators_limit_on_a_model_counts_all_that_match_it() -> None:
    """On whatever engine they run, and under whichever of the names."""
    backend = ScriptedBackend(models=("big:70b", "huge:70b", "small:1b"))
    catalog = Catalog((CatalogEntry(backend, backend.models, healthy=True),))
    table = RoutingTable(catalog, Policy(limits={"*:70b": 1}))
    (running,) = admitted = [running_on(backend)]
    running.job = job("r", model_id="huge:70b")

    refused = admit(job(model_id="big:70b"), table, ExecutorLimits(), Situation(admitted))
    taken = admit(job(model_id="small:1b"), table, ExecutorLimits(), Situation(admitted))

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.OUT_OF_CAPACITY
    assert not isinstance(taken, Refusal)


@pytest.mark.parametrize(("runs", "comes"), [("big:70b", "best"), ("best", "big:70b"), ("best", "best")])
def test_an_alias_is_no_way_around_the_operators_limit(runs: str, comes: str) -> None:
    """The limit is there for what the model needs, whatever it is called."""
    backend = ScriptedBackend(models=("big:70b",))
    catalog = Catalog((CatalogEntry(backend, backend.models, healthy=True),))
    table = RoutingTable(catalog, Policy(limits={"*:70b": 1}, aliases={"best": "big:70b"}))
    running = running_on(backend)
    running.job = job("r", model_id=runs)

    refused = admit(job(model_id=comes), table, ExecutorLimits(), Situation([running]))

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.OUT_OF_CAPACITY
    assert [offer.max_concurrent for offer in table.offers] == [1, 1]


def test_of_all_that_block_a_job_what_passes_first_is_told() -> None:
    """The client comes back when the first of its engines takes jobs again."""
    a, b = ScriptedBackend(name="a"), ScriptedBackend(name="b")
    catalog = Catalog(tuple(CatalogEntry(each, each.models, healthy=True) for each in (a, b)))
    waits_s = {"a": 3.0, "b": 1.5}

    def block(route: Route) -> Block:
        return Block(ErrorCode.RATE_LIMITED, "full", waits_s[route.backend.name])

    verdict = admit(job(), RoutingTable(catalog, Policy()), ExecutorLimits(), Situation((), block=block))

    assert verdict == Refusal(ErrorCode.RATE_LIMITED, "full", retry_after_ms=1500)
