"""An executor with scripted backends around it, and jobs for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.frames import Job
from tests.fakes.backends import ScriptedBackend


def job(job_id: str = "j", **fields: Any) -> Job:
    raw = {"job_id": job_id, "model_id": "m", "request": msgspec.Raw(b'{"messages":[]}')} | fields
    return Job(**raw)


class Bench:
    """An executor with what it told the process around it.

    Attributes:
        ended: what telemetry learned of each job, in order.
        dead: the names of the backends that jobs could not reach.
    """

    def __init__(self, executor: Executor, ended: list[EndedJob], dead: list[str]) -> None:
        self.executor = executor
        self.ended = ended
        self.dead = dead

    async def settle(self) -> None:
        """Let every job that can still move do so."""
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def executing(
    *backends: ScriptedBackend, policy: Policy | None = None, **limits: float
) -> AsyncIterator[Bench]:
    """An executor that runs; leaving it ends what still does."""
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    ended: list[EndedJob] = []
    dead: list[str] = []
    executor = Executor(
        RoutingTable(Catalog(entries), policy or Policy()),
        ExecutorLimits(**limits),  # type: ignore[arg-type]
        clock=asyncio.get_running_loop().time,
        on_end=ended.append,
    )
    executor.on_unreachable = dead.append
    async with asyncio.timeout(10), executor:
        yield Bench(executor, ended, dead)
