"""Whether a job is taken on, and where it may run; pure, and told what runs already."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from provider_agent.agent.circuit import Block
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Refusal, Route, RoutingTable, with_room
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Job


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """What the operator allows; bytes and seconds."""

    max_concurrent: int = 8
    max_job_bytes: int = 32 * 1024 * 1024
    first_byte_timeout_s: float = 900.0
    idle_timeout_s: float = 120.0
    backpressure_timeout_s: float = 30.0
    max_tokens_per_minute: int | None = None
    max_output_tokens: int | None = None
    allow_remote_media: bool = False


class Situation(NamedTuple):
    """How things stand when a job comes.

    Attributes:
        running: what runs.
        draining: the agent is leaving.
        budget_wait_s: how long it is until the operator's limit of tokens allows for another job.
        block: says why a route takes no job at all now.
        paused: what is said to jobs while the agent rests.
    """

    running: Collection[RunningJob]
    draining: bool = False
    budget_wait_s: float = 0.0
    block: Callable[[Route], Block | None] = lambda _: None
    paused: Refusal | None = None


def admit(job: Job, table: RoutingTable, limits: ExecutorLimits, now: Situation) -> Route | Refusal:
    """Where the job runs first, or why nowhere: permanent reasons before passing ones (I7)."""
    routes = table.routes(job.model_id, job.path)
    if isinstance(routes, Refusal):
        return routes
    if memoryview(job.request).nbytes > limits.max_job_bytes:
        reason = f"the request is larger than {limits.max_job_bytes} bytes"
        return Refusal(ErrorCode.REQUEST_TOO_LARGE, reason)
    return _obstacle(job, table, limits, now) or _best_of(routes, limits, now)


def _obstacle(job: Job, table: RoutingTable, limits: ExecutorLimits, now: Situation) -> Refusal | None:
    """What stands in the way of the whole agent, whichever the route."""
    if now.draining:
        return Refusal(ErrorCode.DRAINING, "this agent is leaving")
    if now.paused is not None:
        return now.paused
    if now.budget_wait_s:
        reason = "this agent has served all the tokens that its operator allows in a minute"
        return Refusal(ErrorCode.RATE_LIMITED, reason, retry_after_ms=_milliseconds(now.budget_wait_s))
    if len(now.running) >= limits.max_concurrent:
        return Refusal(ErrorCode.OUT_OF_CAPACITY, "all slots of this agent are taken")
    names = ((each.job.model_id, each.route.model.model_id) for each in now.running)
    if table.is_at_limit(job.model_id, names):
        return Refusal(ErrorCode.OUT_OF_CAPACITY, "all slots that the operator gives this model are taken")
    return None


def _best_of(routes: tuple[Route, ...], limits: ExecutorLimits, now: Situation) -> Route | Refusal:
    """The best free one, or why none is free: where all are blocked, what passes first."""
    blocks = [now.block(route) for route in routes]
    unblocked = tuple(route for route, block in zip(routes, blocks, strict=True) if block is None)
    if not unblocked:
        why = min(filter(None, blocks), key=lambda block: block.wait_s)
        return Refusal(why.code, why.message, retry_after_ms=_milliseconds(why.wait_s))
    free = free_routes(unblocked, now.running, untold=limits.max_concurrent)
    if not free:
        return Refusal(ErrorCode.OUT_OF_CAPACITY, "all slots for this model are taken")
    return free[0]


def free_routes(
    routes: tuple[Route, ...], running: Collection[RunningJob], *, untold: int
) -> tuple[Route, ...]:
    """Those of the routes that can take one more job, the best first; `untold` as in `with_room`."""
    if len(routes) == 1 and routes[0].has_room_for_all(len(running)):
        return routes  # wherever they run

    def active(route: Route) -> tuple[int, int]:
        name = route.backend.name
        there = [row.route.model.model_id for row in running if row.route.backend.name == name]
        return len(there), there.count(route.model.model_id)

    return with_room(routes, active, untold=untold)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
