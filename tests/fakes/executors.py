"""An executor with scripted backends on one side, a line to a coordinator on the other, and jobs for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Job, Resumed, ResumedJob
from tests.fakes.backends import ScriptedBackend
from tests.fakes.outlets import Line

RESUME_S = 60.0
LIMIT_S = 1000.0
"""For a test that hangs: on a clock that jumps, it is no time at all."""


def job(job_id: str = "j", **fields: Any) -> Job:
    raw = {"job_id": job_id, "model_id": "m", "request": msgspec.Raw(b'{"messages":[]}')} | fields
    return Job(**raw)


class Bench:
    """An executor with what it told the process around it.

    Attributes:
        line: the way out that it was lent last.
        ended: what telemetry learned of each job, in order.
        refused: why jobs were not taken on, in order.
        dead, missing: the names of the backends that jobs could not reach, or that had not got the model.
    """

    def __init__(self, table: RoutingTable, limits: ExecutorLimits) -> None:
        self.line = Line()
        self.ended: list[EndedJob] = []
        self.refused: list[ErrorCode] = []
        self.dead: list[str] = []
        self.missing: list[str] = []
        self.executor = Executor(
            table,
            limits,
            clock=asyncio.get_running_loop().time,
            on_end=self.ended.append,
            on_refused=self.refused.append,
        )
        self.executor.on_unreachable = self.dead.append
        self.executor.on_missing = self.missing.append

    def submit(self, *jobs: Job) -> None:
        for each in jobs:
            self.executor.submit(each)

    async def settle(self) -> None:
        """Let every job that can still move do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def lose_session(self, resume_for_s: float = RESUME_S) -> None:
        """The connection breaks, and the coordinator is waited for so long."""
        await self.line.cut()
        self.executor.detach(resume_for_s)

    def join(self, line: Line, resumed: Resumed | None = None) -> None:
        """A session is up, whose coordinator goes on with these jobs."""
        self.line = line
        self.executor.attach(line.channel, resumed)

    async def rejoin(self, **have_seq: int) -> None:
        """The next session is up, with a coordinator that has these jobs as far as this."""
        jobs = tuple(ResumedJob(job_id=job_id, have_seq=seq) for job_id, seq in have_seq.items())
        self.join(Line(), Resumed(jobs=jobs))
        await self.settle()


@asynccontextmanager
async def executing(
    *backends: ScriptedBackend, policy: Policy | None = None, line: Line | None = None, **limits: float
) -> AsyncIterator[Bench]:
    """An executor that runs, in a session; leaving it ends what still does."""
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    table = RoutingTable(Catalog(entries), policy or Policy())
    bench = Bench(table, ExecutorLimits(**limits))  # type: ignore[arg-type]
    async with asyncio.timeout(LIMIT_S), bench.executor:
        bench.join(line or bench.line)
        yield bench
