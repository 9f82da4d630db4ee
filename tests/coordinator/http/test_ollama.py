"""Ollama's clients are served as OpenAI's are: streams unless told, lines, their names and their errors."""

import json

import pytest

from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.protocol.frames import CapabilitiesOk, Job
from tests.fakes.agents import CHAT, capabilities, offer
from tests.fakes.coordinators import Front, front
from tests.fakes.peers import ScriptedAgent

NDJSON = "application/x-ndjson"
HALF = b'{"message":{"content":"a"},"done":false}\n'
END = b'{"message":{"content":""},"done":true}\n'


async def agent_with(it: Front, *names: str) -> ScriptedAgent:
    """One that serves these at Ollama's chat."""
    agent = await it.agent("other")
    await agent.say(capabilities(*(offer(name, endpoints=("/api/chat",)) for name in names), revision=2))
    await agent.expect(CapabilitiesOk)
    return agent


# --- jobs --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_an_answer_comes_in_lines_unless_told_otherwise(path: str) -> None:
    """Ollama's default."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(b'{"model":"m"}', path).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job, content_type=NDJSON)
        await agent.chunk(job.job_id, HALF)
        response = await asking
        assert await response.content.readany() == HALF
        await agent.chunk(job.job_id, END)
        await agent.done(job.job_id)
        assert await response.read() == END

    assert (job.endpoint, job.stream, response.headers["Content-Type"]) == (path, True, NDJSON)


@pytest.mark.parametrize(
    ("path", "body"), [("/api/chat", b'{"model":"m","stream":false}'), ("/api/embed", b'{"model":"m"}')]
)
async def test_an_answer_comes_whole_where_that_is_wanted(path: str, body: bytes) -> None:
    """Embeddings are always."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(body, path).__aenter__())
        job = await agent.expect(Job)
        await agent.start(job, content_type="application/json; charset=utf-8")
        await agent.chunk(job.job_id, END)
        await agent.done(job.job_id)
        response = await asking
        assert await response.read() == END

    assert (job.stream, response.headers["Content-Length"]) == (False, str(len(END)))


async def test_a_bare_object_after_signs_of_life_is_a_line() -> None:
    """So Ollama answers where a model is only to be loaded, which takes its time (field note 74)."""
    async with front(keepalive_s=0.01) as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(b'{"model":"m"}', "/api/chat").__aenter__())
        job = await agent.expect(Job)
        response = await asking
        assert await response.content.readexactly(2) == b"  "
        await agent.start(job, content_type="application/json; charset=utf-8")
        await agent.chunk(job.job_id, END.strip())
        await agent.done(job.job_id)

        assert json.loads(await response.read())["done"] is True


async def test_a_failure_in_the_middle_of_a_stream_is_the_last_line() -> None:
    """Without any `done` (field notes 28, 75)."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(b'{"model":"m"}', "/api/chat").__aenter__())
        job = await agent.expect(Job)
        await agent.chunk(job.job_id, HALF)
        response = await asking
        await response.content.readexactly(len(HALF))
        await agent.fail(job.job_id, "stream_truncated")

        assert await response.read() == b'{"error":"scripted stream_truncated"}\n'
        assert response.status == 200


async def test_a_failure_before_the_first_byte_has_its_own_status_and_ollamas_form() -> None:
    """Also for a stream."""
    async with front() as it:
        agent = await it.agent("m")
        asking = it.tasks.create_task(it.post(b'{"model":"m"}', "/api/chat").__aenter__())
        job = await agent.expect(Job)
        await agent.fail(job.job_id, "bad_request", http_status=400)
        response = await asking

        assert (response.status, await response.json()) == (400, {"error": "scripted bad_request"})


# --- names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"), [("llama3.2", "llama3.2:latest"), ("llama3.2:latest", "llama3.2:latest"), ("m", "m")]
)
async def test_a_name_without_a_tag_means_the_latest(said: str, meant: str) -> None:
    """Unless there is a model of just that name."""
    async with front() as it:
        agent = await agent_with(it, "llama3.2:latest", "m", "m:latest")
        asking = it.tasks.create_task(it.post(b'{"model":"%s"}' % said.encode(), "/api/chat").__aenter__())
        job = await agent.expect(Job)
        await agent.done(job.job_id)
        await asking

        assert meant == job.model_id


@pytest.mark.parametrize("path", ["/api/chat", "/api/show"])
async def test_an_unknown_model_is_told_in_ollamas_words(path: str) -> None:
    """404."""
    async with front() as it:
        await it.agent("m")
        async with it.post(b'{"model":"other"}', path) as response:
            assert (response.status, await response.json()) == (404, {"error": "model 'other' not found"})


async def test_a_model_without_ollamas_endpoints_is_refused_with_those_that_it_has() -> None:
    """Nothing is translated."""
    async with front() as it:
        agent = await it.agent("other")
        await agent.say(capabilities(offer("m", endpoints=(CHAT,)), revision=2))
        await agent.expect(CapabilitiesOk)
        async with it.post(b'{"model":"m"}', "/api/chat") as response:
            assert response.status == 404
            assert (await response.json())[
                "error"
            ] == f"the model 'm' is not served at /api/chat, only at {CHAT}"
        async with it.post(b'{"model":"m"}', "/api/show") as response:
            assert (response.status, await response.json()) == (
                404,
                {"error": "model 'm' is not served at Ollama's endpoints"},
            )
        async with it.client.get("/api/tags") as response:
            assert await response.json() == {"models": []}


# --- the fleet ---------------------------------------------------------------------------


async def test_the_models_are_listed_and_shown() -> None:
    """What is said of each is in `test_ollama_models.py`."""
    async with front() as it:
        await it.agent("m", "llama3.2:latest")
        async with it.client.get("/api/tags") as response:
            listed = await response.json()
        async with it.client.get("/api/ps") as response:
            running = await response.json()
        async with it.client.get("/api/version") as response:
            version = await response.json()
        for body in (b'{"model":"llama3.2"}', b'{"name":"llama3.2:latest"}'):
            async with it.post(body, "/api/show") as response:
                assert (response.status, (await response.json())["capabilities"]) == (200, ["completion"])

    assert [model["name"] for model in listed["models"]] == ["llama3.2:latest", "m"]
    assert running == {"models": []}
    assert version == {"version": "0.14.0"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_that_somebody_is_there_is_told_without_a_key(method: str) -> None:
    """Ollama's own program looks before each command, and knows of no keys."""
    async with front(dev=False) as it, it.client.request(method, "/") as response:
        text = await response.text()

    assert (response.status, text) == (200, "provider-agent is running" if method == "GET" else "")


@pytest.mark.parametrize(("body", "why"), [(b"{", "JSON"), (b"[]", "JSON"), (b"{}", "model is required")])
async def test_a_question_about_no_model_is_400(body: bytes, why: str) -> None:
    """Malformed, or without a name (field note 61)."""
    async with front() as it, it.post(body, "/api/show") as response:
        assert response.status == 400
        assert why in (await response.json())["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:0"),
        ("POST", "/api/embeddings"),
    ],
)
async def test_what_is_not_done_here_is_refused_in_words(method: str, path: str) -> None:
    """Whatever the body says."""
    async with front() as it, it.client.request(method, path, data=b'{"model":"m"}') as response:
        assert response.status == 501
        assert "not" in (await response.json())["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/chat"),
        ("POST", "/api/generate"),
        ("POST", "/api/embed"),
        ("POST", "/api/show"),
        ("GET", "/api/tags"),
        ("GET", "/api/ps"),
        ("GET", "/api/version"),
        ("POST", "/api/pull"),
    ],
)
async def test_without_a_key_nothing_is_told(method: str, path: str) -> None:
    """Neither served nor listed."""
    async with front(dev=False) as it, it.client.request(method, path) as response:
        assert response.status == 401
        assert isinstance((await response.json())["error"], str)


async def test_what_is_nowhere_is_told_in_ollamas_form() -> None:
    """404 and 405."""
    async with front(DispatchLimits()) as it:
        for path, status in (("/api/made/up", 404), ("/api/chat", 405)):
            async with it.client.get(path) as response:
                assert status == response.status
                assert isinstance((await response.json())["error"], str)
