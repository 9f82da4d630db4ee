"""A client's view: an API in front of agents, verbatim, prompt, and honest about failure."""

import asyncio

import aiohttp
import pytest

from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.coordinator.http.serving import HELD_BYTES
from provider_agent.protocol.frames import Job, JobAck
from provider_agent.protocol.window import WINDOW_BYTES
from tests.fakes.coordinators import error_in, front
from tests.fakes.peers import EVERY_ENDPOINT, ScriptedAgent

DONE_EVENT = b"data: [DONE]\n\n"


async def fill_what_is_held(agent: ScriptedAgent, job_id: str) -> None:
    """As much of an answer as the coordinator holds, within the window: that it is stored is acknowledged."""
    half = b"x" * (WINDOW_BYTES // 2)
    for _ in range(HELD_BYTES // len(half)):
        await agent.chunk(job_id, half)
        await agent.expect(JobAck)


# --- answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_ENDPOINT)
async def test_a_request_goes_to_an_agent_and_its_answer_comes_back(path: str) -> None:
    """Both byte for byte (field note 35)."""
    body = b'{ "model":"m", "tools":[], "seed" : 1.50, "stream":false, "\\u00e9":"\xc3\xa9" }'
    reply = b'{"choices":[ {"x": 1.0} ]}'
    async with front() as it:
        agent = await it.agent("m")
        serving = it.tasks.create_task(agent.expect(Job))
        posting = it.tasks.create_task(it.client.post(path, data=body))
        job = await serving
        await agent.start(job, content_type="application/json; charset=utf-8")
        await agent.chunk(job.job_id, reply)
        await agent.done(job.job_id)
        async with await posting as response:
            assert (200, reply) == (response.status, await response.read())
            assert response.headers["Content-Type"] == "application/json; charset=utf-8"
            assert str(len(reply)) == response.headers["Content-Length"]
            assert (job.job_id, "scripted") == (response.headers["X-Job-Id"], response.headers["X-Agent"])

    assert (body, path, False) == (bytes(job.request), job.path, job.stream)


async def test_a_streamed_answer_comes_as_events() -> None:
    """With the headers that keep proxies from holding it back."""
    async with front() as it:
        agent = await it.agent("m")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent.serve(b"data: 1\n\n", b"data: 2\n\n", DONE_EVENT))
            async with it.chat(stream=True) as response:
                assert await response.read() == b"data: 1\n\ndata: 2\n\n" + DONE_EVENT

    assert {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "X-Agent": "scripted",
    }.items() <= dict(response.headers).items()
    assert response.headers["X-Job-Id"].startswith("job-")


async def test_each_token_arrives_before_the_next_is_sent() -> None:
    """No lumps, and no timer before the first one (field notes 34, 69)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job)
        for i in range(20):
            await agent.chunk(job.job_id, b"data: %d\n\n" % i)
            response = await asking
            assert b"data: %d\n\n" % i == await response.content.readany()
        await agent.done(job.job_id)
        assert await response.read() == b""


async def test_bytes_that_are_no_text_pass_through() -> None:
    """Nothing here looks at them (field note 32)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.ask()
        await agent.serve(b"\xff\xc3", b"\x28\x00\r")

        assert await asking == (200, b"\xff\xc3\x28\x00\r")


async def test_many_clients_get_each_their_own_answer() -> None:
    """Also when they ask for the same (field note 80)."""
    async with front() as it:
        agent = await it.agent("m", max_concurrent=20)
        asking = [it.ask(stream=i % 2 == 0) for i in range(40)]
        for _ in range(40):
            job = await agent.expect(Job)
            await agent.start(job)
            await agent.chunk(job.job_id, job.job_id.encode())
            await agent.done(job.job_id)
        bodies = [body for _, body in [await each for each in asking]]

    assert len(set(bodies)) == 40


async def test_an_engines_status_and_type_are_kept() -> None:
    """As far as they can stand in a response."""
    async with front() as it:
        agent = await it.agent("m")
        for status, kind, shown in (
            (201, "text/plain", (201, "text/plain")),
            (7, "evil\r\nX-Injected: 1", (502, "application/octet-stream")),
        ):
            posting = it.tasks.create_task(it.chat(stream=False).__aenter__())
            job = await agent.expect(Job)
            await agent.start(job, http_status=status, content_type=kind)
            await agent.done(job.job_id)
            response = await posting
            assert shown == (response.status, response.headers["Content-Type"])
            assert "X-Injected" not in response.headers


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/html"])
async def test_an_engine_that_does_not_stream_is_not_presented_as_a_stream(kind: str) -> None:
    """Some ignore `stream`: a reader of events would find none, and think the answer empty."""
    async with front() as it:
        agent = await it.agent("m")
        posting = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job, http_status=203, content_type=kind)
        await agent.chunk(job.job_id, b'{"choices":[')
        await agent.chunk(job.job_id, b"]}")
        await agent.done(job.job_id)
        response = await posting

        assert (response.status, response.headers["Content-Type"]) == (203, kind)
        assert await response.read() == b'{"choices":[]}'
        assert response.headers["X-Job-Id"] == job.job_id


@pytest.mark.parametrize("kind", ["", "text/event-stream", "Text/Event-Stream;charset=utf-8"])
async def test_events_are_known_by_their_type_however_it_is_written(kind: str) -> None:
    """And presumed where nobody says, as in protocol 2."""
    async with front() as it:
        agent = await it.agent("m")
        posting = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job, content_type=kind)
        await agent.chunk(job.job_id, b"data: 1\n\n")
        response = await posting
        await agent.done(job.job_id)

        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.read() == b"data: 1\n\n"


async def test_half_an_answer_that_was_not_streamed_may_go_to_another_agent() -> None:
    """The client has seen nothing of it; and what comes then may be a stream."""
    async with front() as it:
        agents = [await it.agent("m", max_concurrent=1) for _ in range(2)]
        asking = it.ask(stream=True)
        job = await agents[0].expect(Job)
        await agents[0].start(job, content_type="application/json")
        await agents[0].chunk(job.job_id, b'{"choices":[')
        await agents[0].fail(job.job_id, "stream_truncated")
        await agents[1].serve(b"data: 1\n\n")

        assert await asking == (200, b"data: 1\n\n")


async def test_an_unstreamed_answer_of_no_stated_type_is_json() -> None:
    """Nobody says in protocol 2."""
    async with front() as it:
        agent = await it.agent("m")
        posting = it.tasks.create_task(it.chat(stream=False).__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, b"{}")
        await agent.done(job.job_id)

        assert (await posting).headers["Content-Type"] == "application/json"


async def test_an_answer_too_large_to_be_held_is_passed_on_as_it_comes() -> None:
    """Before its end."""
    async with front() as it:
        agent = await it.agent("m")
        posting = it.tasks.create_task(it.chat(stream=False).__aenter__())
        job = await agent.expect(Job)
        await fill_what_is_held(agent, job.job_id)
        response = await posting
        await agent.chunk(job.job_id, b"end")
        await agent.done(job.job_id)

        assert await response.read() == b"x" * HELD_BYTES + b"end"


# --- failures ----------------------------------------------------------------------------


async def test_a_failure_before_the_first_byte_has_its_own_status() -> None:
    """And the engine's own words for a bad request (field note 30)."""
    async with front() as it:
        agent = await it.agent("m")
        for stream in (False, True):
            asking = it.ask(stream=stream)
            job = await agent.expect(Job)
            await agent.fail(job.job_id, "bad_request", http_status=422)
            status, body = await asking

            assert status == 422
            assert (
                error_in(body)["code"],
                error_in(body)["message"],
            ) == ("bad_request", "scripted bad_request")
        assert it.told_statuses == [422, 422]


async def test_a_failure_in_the_middle_of_a_stream_is_an_event_and_no_end() -> None:
    """A truncated answer never looks complete (field notes 28, 75)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, b"data: 1\n\ndata: ha")
        response = await asking
        await response.content.readany()
        await agent.fail(job.job_id, "stream_truncated")
        rest = await response.read()

    assert rest.startswith(b'\n\ndata: {"error":{')
    assert rest.endswith(b"\n\n")
    assert b"[DONE]" not in rest
    assert (error_in(rest)["code"], error_in(rest)["type"]) == ("stream_truncated", "server_error")
    assert it.told_statuses == [200]


async def test_a_large_answer_that_fails_in_the_middle_is_cut() -> None:
    """There is no other way to say so."""
    async with front() as it:
        agent = await it.agent("m")
        posting = it.tasks.create_task(it.chat(stream=False).__aenter__())
        job = await agent.expect(Job)
        await fill_what_is_held(agent, job.job_id)
        response = await posting
        await agent.fail(job.job_id, "backend_error")

        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_half_an_answer_that_was_held_is_not_shown() -> None:
    """The client gets the error and its status (field note 28)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.ask()
        job = await agent.expect(Job)
        await agent.start(job)
        await agent.chunk(job.job_id, b'{"choices":[')
        await agent.fail(job.job_id, "stream_truncated")

        status, body = await asking

    assert (status, error_in(body)["code"]) == (502, "stream_truncated")
    assert it.told_statuses == [502]


async def test_another_agent_takes_over_unseen() -> None:
    """While the client has no byte."""
    async with front() as it:
        agents = [await it.agent("m", max_concurrent=1) for _ in range(2)]
        asking = it.ask(stream=True)
        job = await agents[0].expect(Job)
        await agents[0].fail(job.job_id, "backend_unreachable")
        await agents[1].serve(b"data: 1\n\n")

        assert await asking == (200, b"data: 1\n\n")


async def test_a_lost_agent_in_the_middle_of_a_stream_is_told() -> None:
    """At once, not after a timeout."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.chat(stream=True).__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, b"data: 1\n\n")
        response = await asking
        await response.content.readany()
        await agent.close()

        assert error_in(await response.read())["code"] == "session_lost"


# --- refusals ----------------------------------------------------------------------------


async def test_an_unknown_model_is_404() -> None:
    """With OpenAI's code for it."""
    async with front() as it:
        await it.agent("m")
        async with it.chat(stream=True, model="other") as response:
            error = error_in(await response.read())

    assert (response.status, error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":1}', b'{"model":"\xff"}'])
async def test_a_malformed_body_is_400(body: bytes) -> None:
    """And takes nobody's place (field note 61)."""
    async with front() as it, it.post(body) as response:
        assert response.status == 400
        assert error_in(await response.read())["type"] == "invalid_request_error"


async def test_a_body_that_is_too_large_is_413() -> None:
    """Before it is held whole."""
    async with front(max_body_bytes=1000) as it, it.post(b"x" * 100_000) as response:
        assert (response.status, error_in(await response.read())["code"]) == (413, "request_too_large")


async def test_without_a_key_nothing_is_served() -> None:
    """Neither jobs nor the list of models."""
    async with front(dev=False) as it:
        for path, method in (("/v1/models", "GET"), ("/v1/models/m", "GET"), ("/v1/embeddings", "POST")):
            async with it.client.request(method, path) as response:
                error = error_in(await response.read())
                assert (response.status, error["code"]) == (401, "invalid_api_key")


async def test_a_full_queue_is_429_with_a_time_to_come_back() -> None:
    """For streamed requests as for others."""
    async with front(DispatchLimits(queue_max_jobs=0)) as it:
        await it.agent("m", max_concurrent=0)
        for stream in (False, True):
            async with it.chat(stream=stream) as response:
                error = error_in(await response.read())
                assert (response.status, error["type"]) == (429, "rate_limit_error")
                assert response.headers["Retry-After"] == "5"


async def test_a_wait_that_was_too_long_is_429() -> None:
    """As long as the client has seen nothing."""
    async with front(DispatchLimits(queue_max_wait_s=0.01)) as it:
        await it.agent("m", max_concurrent=0)
        async with it.chat(stream=True) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "5")
