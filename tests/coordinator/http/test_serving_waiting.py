"""A client that waits hears something; one that leaves, or does not read, costs nobody anything."""

import asyncio
from collections.abc import Callable

import pytest

from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.protocol.frames import Job, JobCancel
from tests.fakes.answering import let_pass
from tests.fakes.coordinators import Front, error_in, front, until
from tests.fakes.peers import ScriptedAgent

NOTICED_WITHIN_S = 0.05
"""How soon an agent hears that its client left; a busy machine may be late, but not each time."""

TRIES = 5


# --- keeping the line alive --------------------------------------------------------------


async def test_a_stream_that_waits_in_the_queue_gets_comments_and_then_its_refusal_as_an_event() -> None:
    """A status has been sent, so the refusal cannot be one any more (field note 74)."""
    async with front(DispatchLimits(queue_max_wait_s=0.5), keepalive_s=0.01) as it:
        await it.agent("m", max_concurrent=0)
        async with it.chat(stream=True) as response:
            body = await response.read()

    assert response.status == 200
    assert it.told_statuses == [200]
    assert body.startswith(b": waiting for the engine\n\n: waiting for the engine\n\n")
    assert (error_in(body)["code"], error_in(body)["type"]) == ("out_of_capacity", "rate_limit_error")
    assert b"[DONE]" not in body


async def test_a_stream_that_waits_for_its_first_byte_gets_comments_until_it_comes() -> None:
    """And none afterwards."""
    async with front(keepalive_s=0.01) as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job)
        response = await asking
        assert await response.content.readuntil(b"\n\n") == b": waiting for the engine\n\n"
        await agent.chunk(job.job_id, b"data: 1\n\n")
        while (line := await response.content.readuntil(b"\n\n")) != b"data: 1\n\n":
            assert line == b": waiting for the engine\n\n"
        await agent.chunk(job.job_id, b"data: 2\n\n")
        await agent.done(job.job_id)

        assert await response.read() == b"data: 2\n\n"
        assert response.headers["X-Agent"] == "scripted"


async def test_a_job_may_still_change_agents_after_comments() -> None:
    """They are no part of the answer."""
    async with front(keepalive_s=0.01) as it:
        agents = [await it.agent("m", max_concurrent=1) for _ in range(2)]
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agents[0].expect(Job)
        response = await asking
        await agents[0].fail(job.job_id, "backend_error")
        await agents[1].serve(b"data: 1\n\n")

        assert (await response.read()).endswith(b"\n\ndata: 1\n\n")


async def test_an_answer_that_turns_out_not_to_be_a_stream_after_comments_fails_as_an_event() -> None:
    """The client reads events by then, and would take a bare body for an empty answer."""
    async with front(keepalive_s=0.01) as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        response = await asking
        await agent.start(job, content_type="application/json")
        await agent.chunk(job.job_id, b'{"choices":[]}')
        body = await response.read()

        assert (error_in(body)["code"], error_in(body)["message"]) == (
            "backend_error",
            "the engine did not stream its answer",
        )
        assert b"choices" not in body
        assert job.job_id == (await agent.expect(JobCancel)).job_id


async def test_an_engine_that_is_known_not_to_stream_gets_no_comments() -> None:
    """They would spoil the answer that is still to come whole."""
    async with front(keepalive_s=0.4) as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job, content_type="application/json")
        await let_pass(0.6)
        await agent.chunk(job.job_id, b"{}")
        await agent.done(job.job_id)
        response = await asking

        assert await response.read() == b"{}"


async def test_an_answer_that_is_not_streamed_gets_no_comments() -> None:
    """They would break it."""
    async with front(keepalive_s=0.001) as it:
        agent = await it.agent("m")
        asking = it.ask()
        job = await agent.expect(Job)
        await let_pass(0.02)
        await agent.chunk(job.job_id, b"{}")
        await agent.done(job.job_id)

        assert await asking == (200, b"{}")


# --- clients that leave, and clients that dawdle -----------------------------------------


async def heard_of(leave: Callable[[], object], agent: ScriptedAgent, job: Job) -> float:
    """Seconds from a client's leaving until the agent of its job is told to stop; it does."""
    loop = asyncio.get_running_loop()
    left_at_s = loop.time()
    leave()
    assert job.job_id == (await agent.expect(JobCancel)).job_id
    took_s = loop.time() - left_at_s
    await agent.fail(job.job_id, "cancelled")
    return took_s


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_byte_stops_its_job(stream: bool) -> None:
    """During the prefill, within 50 ms (field note 70)."""

    async def leave(it: Front, agent: ScriptedAgent) -> float:
        asking = it.ask(stream=stream)
        job = await agent.expect(Job)
        return await heard_of(asking.cancel, agent, job)

    async with front() as it:
        agent = await it.agent("m")
        assert min([await leave(it, agent) for _ in range(TRIES)]) < NOTICED_WITHIN_S


async def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_its_job() -> None:
    """Within 50 ms (field note 70)."""

    async def leave(it: Front, agent: ScriptedAgent) -> float:
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, b"data: 1\n\n")
        return await heard_of((await asking).close, agent, job)

    async with front() as it:
        agent = await it.agent("m")
        assert min([await leave(it, agent) for _ in range(TRIES)]) < NOTICED_WITHIN_S


async def test_a_client_that_leaves_the_queue_is_never_dispatched() -> None:
    """And the next one in line is not hit (field note 70)."""
    async with front() as it:
        agent = await it.agent("m", max_concurrent=1)
        first = it.ask()
        job = await agent.expect(Job)
        leaving = it.ask()
        await until(lambda: it.dispatcher.view().waiting_jobs == 1)
        staying = it.ask()
        await until(lambda: it.dispatcher.view().waiting_jobs == 2)
        leaving.cancel()
        await until(lambda: it.dispatcher.view().waiting_jobs == 1)
        await agent.done(job.job_id)
        await first
        await agent.serve(b"mine")

        assert await staying == (200, b"mine")
    assert not any(isinstance(frame, JobCancel) for frame in agent.heard)


async def test_a_client_that_does_not_read_loses_its_answer_and_holds_up_nobody() -> None:
    """Its agent is told to stop; other answers flow meanwhile (field note 11)."""
    async with front(DispatchLimits(answer_bytes=256 * 1024)) as it:
        agent = await it.agent("m")
        assert it.client._base_url is not None
        _, writer = await asyncio.open_connection("127.0.0.1", it.client._base_url.port, limit=1024)
        body = b'{"model":"m","stream":true}'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        job = await agent.expect(Job)
        cancelled = it.tasks.create_task(agent.expect(JobCancel))
        while not cancelled.done():
            await agent.chunk(job.job_id, b"x" * 65536)
            await asyncio.sleep(0)
        asking = it.ask()
        await agent.serve(b"brisk")

        assert job.job_id == cancelled.result().job_id
        assert await asking == (200, b"brisk")
        writer.transport.abort()
