"""Tells agents what of their answers was taken, not more often than needed; knows no client and no socket.

An agent hears of it at half a window at once, else 50 ms after the first byte that it has not heard of,
and with the outcome. One timer serves all jobs. An agent that is away hears of it when it is back.
"""

import asyncio
from collections.abc import Callable, Mapping

from provider_agent.coordinator.fleet import Provider
from provider_agent.coordinator.jobs import Job
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import LEGACY_PROTOCOL, JobAck, JobError, Outcome

ACK_DELAY_S = 0.05

Later = Callable[[float, Callable[[], None]], object]
"""Calls something once, after so many seconds."""


def on_the_loop(delay_s: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, call)


class Acks:
    """Watches over the jobs that live."""

    def __init__(self, jobs: Mapping[str, Job], later: Later = on_the_loop) -> None:
        self._jobs = jobs
        self._later = later
        self._owed: dict[str, None] = {}  # whose agents hear of it when the timer, which runs then, ends

    def consumed(self, job_id: str, total_bytes: int) -> None:
        """A job's consumer has now taken so many bytes of this attempt in all."""
        job = self._jobs.get(job_id)
        if job is None:
            return  # its outcome was acknowledged, and with it everything
        inflow = job.inflow
        inflow.consume(total_bytes)
        if inflow.is_ack_due and self._tell(job):
            return
        owed = self._owed
        if job_id not in owed:
            if not owed:
                self._later(ACK_DELAY_S, self._tell_owed)
            owed[job_id] = None

    def repeat(self, job: Job) -> None:
        """Say again what was said last: its agent is back, and may not have heard it."""
        provider, seq = job.provider, job.inflow.acked_seq
        if not self._tell(job) and seq >= 0 and provider is not None and provider.session is not None:
            provider.session.post(JobAck(job_id=job.job_id, seq=seq))

    def acknowledge(self, provider: Provider, outcome: Outcome) -> None:
        """Say that an outcome is here, whether we know its job or not: else its agent keeps it for us.

        But for what only answers a frame of ours: an ack of that would be answered in the same way.
        """
        if outcome.seq is None or provider.protocol <= LEGACY_PROTOCOL or provider.session is None:
            return
        if not isinstance(outcome, JobError) or outcome.error_code != ErrorCode.UNKNOWN_JOB.value:
            provider.session.post(JobAck(job_id=outcome.job_id, seq=outcome.seq))

    def _tell_owed(self) -> None:
        owed, self._owed = self._owed, {}
        for job_id in owed:
            job = self._jobs.get(job_id)
            if job is not None:
                self._tell(job)

    def _tell(self, job: Job) -> bool:
        """Whether there was anything to tell, and somebody to hear it."""
        provider = job.provider
        if provider is None or provider.session is None:
            return False
        seq = job.inflow.ack_due(now=True)
        if seq is None:
            return False
        if provider.protocol > LEGACY_PROTOCOL:
            provider.session.post(JobAck(job_id=job.job_id, seq=seq))
        return True
