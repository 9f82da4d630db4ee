"""Drives one job at a time on its backend, from the call to its last byte; admits none, and ends none."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Final

from provider_agent.agent.admission import ExecutorLimits, free_routes
from provider_agent.agent.breaker import Breaker
from provider_agent.agent.circuit import Key
from provider_agent.agent.failover import OthersAreFull, alternatives, before_first_byte, is_risky
from provider_agent.agent.outcomes import RunningJob
from provider_agent.agent.routing import Refusal, Route
from provider_agent.agent.waiting import mind_cancel
from provider_agent.backends.base import (
    BackendError,
    BackendUnreachable,
    Call,
    FirstByteTimeout,
    ModelNotFound,
    Reply,
)
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Job, JobStarted, Outcome
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

LONG_S: Final = 30.0
"""An engine that has said nothing for so long is not excused by a client who did not wait any longer."""


class Driver:
    """How jobs are driven in this process.

    Attributes:
        limits: the present ones; a job asks its engine under those of that moment.
    """

    def __init__(
        self,
        limits: ExecutorLimits,
        *,
        clock: Callable[[], float],
        routes: Callable[[Job], tuple[Route, ...] | Refusal],
        running: Callable[[], Collection[RunningJob]],
        breaker: Breaker,
        on_unreachable: Callable[[str], None],
        on_missing: Callable[[str], None],
    ) -> None:
        """`routes` gives where a job may run at present, `running` what does.

        The last two are told the name of such a backend.
        """
        self.limits = limits
        self._clock = clock
        self._routes = routes
        self._running = running
        self._breaker = breaker
        self._on_unreachable = on_unreachable
        self._on_missing = on_missing

    def outcome(self, running: RunningJob) -> Coroutine[None, None, Outcome]:
        """Run the job to its end, or to its deadline."""
        deadline_ms = running.job.deadline_ms
        return self._result(running) if deadline_ms is None else self._within(running, deadline_ms)

    async def _within(self, running: RunningJob, deadline_ms: int) -> Outcome:
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await self._result(running)
        except TimeoutError:
            running.lane.discard()
            why = f"the job's deadline of {deadline_ms} ms passed"
            return running.failed(self._clock(), ErrorCode.BACKEND_TIMEOUT, why)

    async def _result(self, running: RunningJob) -> Outcome:
        """Everything that can go wrong becomes the outcome's code; what came before that still leaves."""
        failure: tuple[ErrorCode, str, BackendError | None] | None = None
        try:
            await self._drive(running)
        except BackendError as error:
            failure = error.code, error.message, error
        except OthersAreFull as full:
            failure = ErrorCode.OUT_OF_CAPACITY, str(full), None
        except Exception:  # the job boundary: a defect of ours ends this job and no other
            log.exception("job_crashed", job_id=running.job.job_id)
            failure = ErrorCode.INTERNAL, "a defect in the agent ended the job", None
        await running.pump.drained()
        if failure is None:
            return running.done(self._clock())
        return running.failed(self._clock(), *failure)

    async def _drive(self, running: RunningJob) -> None:
        """Try one engine after the other until one answers; a job is bound to the one whose bytes it sent.

        What breaks because we leave it says nothing of the engine, and nobody waits for the next one.
        """
        failures: dict[Key, BackendError] = {}
        while True:
            try:
                await self._relay(running, running.route)
            except BackendError as error:
                mind_cancel()
                self._note(running.route, error)
                if running.pump.first_byte_s is not None:
                    raise
                failures[running.route.key] = error
                self._move(running, self._next(running, failures, before_first_byte(error)), error)
            except asyncio.CancelledError:
                self._note_silence(running)
                raise
            else:
                self._breaker.succeeded(running.route)
                return

    def _move(self, running: RunningJob, to: Route, error: BackendError) -> None:
        log.info(
            "job_moved",
            job_id=running.job.job_id,
            model_id=running.job.model_id,
            backend=running.route.backend.name,
            to=to.backend.name,
            code=error.code.value,
            http_status=error.http_status,
        )
        running.moved_from += ((running.route.backend.name, error.code),)
        running.route, running.reply = to, None

    def _note_silence(self, running: RunningJob) -> None:
        opened_s = self._clock() if running.opened_s is None else running.opened_s
        if running.pump.first_byte_s is None and self._clock() - opened_s >= LONG_S:
            self._note(running.route, FirstByteTimeout("nobody waited any longer for a first byte"))

    def _note(self, route: Route, error: BackendError) -> None:
        if not self._breaker.minds(route):
            return
        self._breaker.failed(route, error)
        if isinstance(error, BackendUnreachable):
            self._on_unreachable(route.backend.name)
        elif isinstance(error, ModelNotFound):
            self._on_missing(route.backend.name)

    def _next(self, running: RunningJob, failures: Mapping[Key, BackendError], error: BackendError) -> Route:
        """Where the job may go on, as things are now: engines and settings may have changed since it came.

        Raises BackendError or OthersAreFull when that is nowhere.
        """
        routes = self._routes(running.job)
        untried = () if isinstance(routes, Refusal) else tuple(r for r in routes if r.key not in failures)
        others = alternatives(running.route, untried, error)
        others = tuple(each for each in others if not self._breaker.block(each))
        if not others or is_risky(failures.values()):
            raise error
        free = free_routes(others, self._running(), untold=self.limits.max_concurrent)
        if not free:
            raise OthersAreFull("an engine failed, and the others with this model are full") from error
        return free[0]

    async def _relay(self, running: RunningJob, route: Route) -> None:
        running.opened_s = self._clock()
        async with route.backend.open(self._call(running.job, route)) as reply:
            running.reply = reply
            running.pump.on_begin = lambda: running.lane.start(_started(running.job, route, reply))
            await running.pump.relay(reply)

    def _call(self, job: Job, route: Route) -> Call:
        first_byte_ms, idle_ms = job.first_byte_timeout_ms, job.idle_timeout_ms
        limits = self.limits
        return Call(
            endpoint=job.path,
            model=route.model.model_id,
            body=bytes(job.request),
            stream=job.stream,
            first_byte_timeout_s=first_byte_ms / 1000 if first_byte_ms else limits.first_byte_timeout_s,
            idle_timeout_s=idle_ms / 1000 if idle_ms else limits.idle_timeout_s,
            max_output_tokens=limits.max_output_tokens,
            allow_remote_media=limits.allow_remote_media,
        )


def _started(job: Job, route: Route, reply: Reply) -> JobStarted:
    """Said with the first byte: until then, the job may move to another backend."""
    return JobStarted(
        job_id=job.job_id,
        backend=route.backend.name,
        upstream_model=route.model.model_id,
        http_status=reply.http_status,
        content_type=reply.content_type,
    )
