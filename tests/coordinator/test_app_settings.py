"""What the operator settles reaches the part that keeps it, through the whole coordinator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from provider_agent.coordinator.app import run
from provider_agent.coordinator.config import load
from provider_agent.protocol.frames import AuthOk, Job, JobCancel
from provider_agent.transport.dialled import DialOptions, dial
from tests.fakes.peers import ScriptedAgent

LIMIT_S = 10.0


@asynccontextmanager
async def coordinator(**flags: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, ScriptedAgent]]:
    """A coordinator with these settings, a client of it, and an agent that has one slot for the model `m`."""
    config = load({"dev": True, "listen": "127.0.0.1:0", **flags}, {})
    stop = asyncio.Event()
    listening: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def note(name: str, facts: dict[str, object]) -> None:
        if name == "listening":
            listening.set_result(facts)

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(config, stop=stop, on_event=note))
        place = await listening
        agent = ScriptedAgent(await dial(str(place["agents_url"]), DialOptions()), host="127.0.0.1")
        await agent.join("m", max_concurrent=1)
        try:
            async with aiohttp.ClientSession(str(place["url"])) as client:
                yield client, agent
        finally:
            await agent.close()
            stop.set()


def chat(words: str = "", *, stream: bool = False) -> dict[str, Any]:
    """A request as `aiohttp` takes it."""
    return {"url": "/v1/chat/completions", "json": {"model": "m", "prompt": words, "stream": stream}}


async def test_a_body_beyond_the_limit_is_refused() -> None:
    """And the next one is served."""
    async with coordinator(max_body_bytes=1000) as (client, agent), asyncio.TaskGroup() as tasks:
        async with client.post(**chat("x" * 2000)) as refused:
            assert refused.status == 413
        tasks.create_task(agent.serve(b"{}"))
        async with client.post(**chat("x" * 100)) as served:
            assert served.status == 200


async def test_the_queue_is_as_long_as_the_operator_says() -> None:
    """One runs, none may wait."""
    async with coordinator(queue_max_jobs=0) as (client, agent), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.post(**chat()).__aenter__())
        job = await agent.expect(Job)
        async with client.post(**chat()) as refused:
            assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        await agent.done(job.job_id)
        (await running).close()


async def test_a_job_waits_as_long_as_the_operator_says() -> None:
    """Then it is refused, with a time to come back."""
    async with coordinator(queue_max_wait_s=0.05) as (client, agent), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.post(**chat()).__aenter__())
        job = await agent.expect(Job)
        async with client.post(**chat()) as refused:
            assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        await agent.done(job.job_id)
        (await running).close()


async def test_a_stream_that_waits_says_so_as_often_as_the_operator_wants() -> None:
    """A comment, long before the engine's first byte."""
    async with (
        coordinator(keepalive_s=0.05) as (client, agent),
        client.post(**chat(stream=True)) as response,
    ):
        job = await agent.expect(Job)
        assert (await response.content.readline()).startswith(b":")
        await agent.chunk(job.job_id, b"data: [DONE]\n\n")
        await agent.done(job.job_id)
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")


async def test_agents_are_told_the_interval_of_heartbeats() -> None:
    """With the verdict on who they are."""
    async with coordinator(heartbeat_interval_ms=1234) as (_, agent):
        accepted = [frame for frame in agent.heard if isinstance(frame, AuthOk)]

        assert [frame.heartbeat_interval_ms for frame in accepted] == [1234]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_noticed(stream: bool) -> None:
    """The server ends the handler of a connection that is gone, and so the job (field note 70)."""
    async with coordinator() as (client, agent), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.post(**chat(stream=stream)).__aenter__())
        job = await agent.expect(Job)
        asking.cancel()

        assert (await agent.expect(JobCancel)).job_id == job.job_id
