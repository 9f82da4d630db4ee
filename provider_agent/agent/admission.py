"""Whether a job is taken on, and where it may run; pure, and told what runs already."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Refusal, Route, RoutingTable, with_room
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Job


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """What the operator allows; bytes and seconds."""

    max_concurrent: int = 8
    max_job_bytes: int = 32 * 1024 * 1024
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    backpressure_timeout_s: float = 30.0
    max_tokens_per_minute: int | None = None
    max_output_tokens: int | None = None


def admit(
    job: Job,
    table: RoutingTable,
    limits: ExecutorLimits,
    running: Collection[RunningJob],
    *,
    draining: bool,
    wait_s: float,
) -> tuple[Route, ...] | Refusal:
    """The routes that are free for the job; permanent reasons against it before passing ones (I7).

    `wait_s` is how long it is until the operator's limit of tokens allows for another job.
    """
    routes = table.routes(job.model_id, job.path)
    if isinstance(routes, Refusal):
        return routes
    if memoryview(job.request).nbytes > limits.max_job_bytes:
        reason = f"the request is larger than {limits.max_job_bytes} bytes"
        return Refusal(ErrorCode.REQUEST_TOO_LARGE, reason)
    if draining:
        return Refusal(ErrorCode.DRAINING, "this agent is leaving")
    if wait_s:
        reason = "this agent has served all the tokens that its operator allows in a minute"
        return Refusal(ErrorCode.RATE_LIMITED, reason, retry_after_ms=math.ceil(wait_s * 1000))
    if len(running) >= limits.max_concurrent:
        return Refusal(ErrorCode.OUT_OF_CAPACITY, "all slots of this agent are taken")
    return free_routes(routes, running) or Refusal(
        ErrorCode.OUT_OF_CAPACITY, "all slots for this model are taken"
    )


def free_routes(routes: tuple[Route, ...], running: Collection[RunningJob]) -> tuple[Route, ...]:
    """Those of the routes that can take one more job, the best first."""
    if len(routes) == 1 and routes[0].has_room_for_all(len(running)):
        return routes  # wherever they run

    def active(route: Route) -> tuple[int, int]:
        name = route.backend.name
        there = [row.route.model.model_id for row in running if row.route.backend.name == name]
        return len(there), there.count(route.model.model_id)

    return with_room(routes, active)
