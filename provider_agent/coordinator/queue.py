"""Jobs that wait for a slot, in the order of their arrival, each for so long; decides nothing."""

from bisect import insort
from collections.abc import Iterator

from provider_agent.coordinator.jobs import Job


class Queue:
    """Who came first stands first, also one that comes back."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        insort(self._jobs, job, key=arrival_of)

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)

    def clear(self) -> None:
        self._jobs.clear()

    def overdue(self, now_s: float) -> list[Job]:
        """Those that have waited too long; they do not wait any more."""
        overdue = [job for job in self._jobs if job.waits_until_s <= now_s]
        if overdue:
            self._jobs = [job for job in self._jobs if job.waits_until_s > now_s]
        return overdue


def arrival_of(job: Job) -> int:
    return job.arrival
