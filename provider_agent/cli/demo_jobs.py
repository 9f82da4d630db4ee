"""What the demo knows of the jobs it sees, from the coordinator's events; knows no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that ended.

    Attributes:
        code: None when it was served.
        tokens_per_s: after the first byte; None when that cannot be told.
    """

    job_id: str
    model: str
    code: str | None
    tokens: int | None
    first_byte_s: float | None
    duration_s: float

    @property
    def tokens_per_s(self) -> float | None:
        if not self.tokens or self.first_byte_s is None or self.duration_s <= self.first_byte_s:
            return None
        return self.tokens / (self.duration_s - self.first_byte_s)


class Jobs:
    """The jobs of one demo.

    Attributes:
        served, failed: how many ended well, and otherwise.
    """

    def __init__(self) -> None:
        self.served = 0
        self.failed = 0
        self._running: set[str] = set()
        self._tokens: dict[str, int | None] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def ended(self) -> int:
        return self.served + self.failed

    def take(self, name: str, fields: Mapping[str, Any]) -> Finished | None:
        """Learn from an event; gives the job that it ended, if it did."""
        match name:
            case "job_dispatched":
                self._running.add(fields["job_id"])
            case "attempt_ended" if fields["job_id"] in self._running:  # else its client left before
                self._tokens[fields["job_id"]] = fields["output_tokens"]
            case "job_ended":
                return self._end(fields)
            case _:
                pass
        return None

    def _end(self, fields: Mapping[str, Any]) -> Finished:
        job_id = fields["job_id"]
        self._running.discard(job_id)
        finished = Finished(
            job_id,
            fields["model_id"],
            fields["code"],
            self._tokens.pop(job_id, None),
            fields["first_byte_s"],
            fields["duration_s"],
        )
        self.served += finished.code is None
        self.failed += finished.code is not None
        return finished
