"""Anthropic's clients are served as OpenAI's are, and told in their own form what goes wrong."""

import json

from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.coordinator.http.dialect import ANTHROPIC
from provider_agent.coordinator.store.base import digest
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.protocol.frames import Format, Job
from tests.fakes.coordinators import front

MESSAGES = "/v1/messages"
BODY = b'{"model":"m","stream":true}'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


async def test_messages_are_streamed_as_they_come() -> None:
    """The agent is told endpoint and format: the latter is older."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(BODY, MESSAGES).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job)
        await agent.chunk(job.job_id, STOP)
        await agent.done(job.job_id)
        response = await asking
        assert await response.read() == STOP

    assert response.headers["Content-Type"] == "text/event-stream"
    assert (job.endpoint, job.format, job.stream) == (MESSAGES, Format.ANTHROPIC, True)


async def test_a_stream_that_waits_gets_pings() -> None:
    """Anthropic's own sign of life, which its clients pass over (field note 74)."""
    async with front(keepalive_s=0.01) as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(BODY, MESSAGES).__aenter__())
        job = await agent.expect(Job)
        response = await asking
        assert await response.content.readuntil(b"\n\n") == ANTHROPIC.waiting
        await agent.start(job)
        await agent.chunk(job.job_id, STOP)
        await agent.done(job.job_id)

        assert (await response.read()).replace(ANTHROPIC.waiting, b"") == STOP


async def test_a_failure_in_the_middle_of_a_stream_is_an_error_event_and_no_stop() -> None:
    """A truncated answer never looks complete (field notes 28, 75)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(BODY, MESSAGES).__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, b'event: message_start\ndata: {"type":"mess')
        response = await asking
        await response.content.readany()
        await agent.fail(job.job_id, "stream_truncated")
        rest = await response.read()

    assert rest.startswith(b"\n\nevent: error\ndata: ")
    assert json.loads(rest.removeprefix(b"\n\nevent: error\ndata: ")) == {
        "type": "error",
        "error": {"type": "api_error", "message": "scripted stream_truncated"},
    }
    assert rest.endswith(b"\n\n")
    assert b"message_stop" not in rest


async def test_a_refusal_has_its_status_and_anthropics_form() -> None:
    """Unknown model, bad body, full queue, wrong path."""
    async with front(DispatchLimits(queue_max_jobs=0)) as it:
        await it.agent("m", max_concurrent=0)
        for path, body, status, kind in (
            (MESSAGES, b'{"model":"other"}', 404, "not_found_error"),
            (MESSAGES, b"{", 400, "invalid_request_error"),
            (MESSAGES, BODY, 429, "rate_limit_error"),
            ("/v1/messages/count_tokens", BODY, 404, "not_found_error"),
        ):
            async with it.post(body, path) as response:
                told = await response.json()
                assert (response.status, told["type"], told["error"]["type"]) == (status, "error", kind)


async def test_without_a_key_no_message_is_served() -> None:
    """Told in Anthropic's form."""
    async with front(dev=False) as it, it.post(BODY, MESSAGES) as response:
        assert response.status == 401
        assert (await response.json())["error"]["type"] == "authentication_error"


async def test_a_key_may_come_as_anthropics_clients_send_it() -> None:
    """`x-api-key`, unless there is an `Authorization`."""
    store = MemoryStore()
    await store.add_key(digest("secret"), "ann", 0)
    async with front(dev=False, store=store) as it:
        for headers, status in (
            ({"x-api-key": "secret"}, 404),
            ({"Authorization": "Bearer secret"}, 404),
            ({"x-api-key": "other"}, 401),
            ({"x-api-key": "secret", "Authorization": "Bearer other"}, 401),
        ):
            async with it.client.post(MESSAGES, data=BODY, headers=headers) as response:
                assert status == response.status
