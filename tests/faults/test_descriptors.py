"""A process that may open no more files: it refuses what it cannot serve, goes on, and recovers."""

import asyncio
import resource
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.fakes.clients import Heard, ask
from tests.fakes.programs import Program
from tests.fakes.tapes import asks_for, tape
from tests.faults.parts import line, needs_linux

PLENTY = 4096


def allow_descriptors(program: Program, more: int | None = None) -> None:
    """So many more than it has open now; None for plenty."""
    pid = program.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    soft = PLENTY if more is None else highest + 1 + more
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(soft, hard), hard))


@needs_linux
async def test_an_agent_without_descriptors_fails_jobs_and_recovers(tmp_path: Path) -> None:
    """It cannot reach its engine: each client is told, running answers go on, and later all is well."""
    brief = {"QUEUE_MAX_WAIT_S": "0.5", "HEARTBEAT_INTERVAL_MS": "1000"}
    async with line(tmp_path, apart=True, coordinator=brief) as parts:
        gate = parts.engine.hold("running", before=10)
        async with parts.client("running") as running:
            await running.first(10)
            allow_descriptors(parts.agent, 0)
            refused = await asyncio.gather(*(parts.ask(f"refused-{number}") for number in range(5)))
            gate.set()
            heard = await running.rest()
            allow_descriptors(parts.agent)
        await parts.is_served_again()
        await parts.is_idle()

    assert all(each.error for each in refused)
    assert not any(name.startswith("refused") for name in parts.engine.counts)
    assert heard.body == tape("running")


@needs_linux
async def test_a_coordinator_without_descriptors_refuses_clients_and_recovers(tmp_path: Path) -> None:
    """Those that are in are served, the agent stays, and whoever comes later is served again."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        gate = parts.engine.hold("running", before=10)
        running = await stack.enter_async_context(parts.client("running"))
        await running.first(10)
        allow_descriptors(parts.coordinator, 2)
        async with asyncio.timeout(10):
            crowd = await asyncio.gather(*(tried(parts.port, f"crowd-{number}") for number in range(20)))
        gate.set()
        heard = await running.rest()
        allow_descriptors(parts.coordinator)
        await parts.is_served_again()
        await parts.is_idle()

    assert all(each is None or each.is_whole or each.is_cut for each in crowd)
    assert heard.body == tape("running")
    assert len(parts.proxy.connections) == 1


async def tried(port: int, name: str) -> Heard | None:
    """What a client gets within a moment; None when it waits at the door, and leaves."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            return await ask(port, asks_for(name))
    return None
