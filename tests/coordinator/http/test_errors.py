"""Every refusal has its API's form and the right status, and no defect of ours leaves another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from provider_agent.coordinator.failures import failed, failure_of
from provider_agent.coordinator.http.dialect import OPENAI
from provider_agent.coordinator.http.errors import (
    RequestError,
    failed_response,
    tell_errors,
    translated,
)
from provider_agent.coordinator.store.base import StoreError
from provider_agent.protocol.errors import RULES, ErrorCode
from provider_agent.protocol.frames import JobError

NOTHING = "there is nothing at this path"


@asynccontextmanager
async def server(error: Exception | None, *, after: bytes = b"") -> AsyncIterator[aiohttp.ClientSession]:
    """Raises this error, perhaps after it has sent these bytes of an answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if after:
            await response.prepare(request)
            await response.write(after)
        if error is not None:
            raise error
        return web.Response(text="fine")

    app = web.Application(middlewares=[tell_errors])
    app.router.add_get("/v1/thing", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
            yield client
    finally:
        await runner.cleanup()


async def told(
    client: aiohttp.ClientSession, method: str = "GET", path: str = "/v1/thing"
) -> tuple[int, str]:
    async with client.request(method, path) as response:
        body = await response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    return response.status, body["error"]["code"]


async def test_what_goes_well_is_left_alone() -> None:
    """The ordinary case."""
    async with server(None) as client, client.get("/v1/thing") as response:
        assert (response.status, await response.text()) == (200, "fine")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestError(422, "bad_thing", "no", param="x"), 422, "bad_thing"),
        (StoreError("the disk is gone"), 503, "store_unavailable"),
        (web.HTTPRequestEntityTooLarge(10, 11), 413, "request_too_large"),
        (web.HTTPServiceUnavailable(), 503, "service_unavailable"),
    ],
)
async def test_errors_get_their_status_and_shape(error: Exception, status: int, code: str) -> None:
    """Whoever raised them."""
    async with server(error) as client:
        assert (status, code) == await told(client)


async def test_a_defect_of_ours_is_a_500_that_says_nothing_of_itself() -> None:
    """The traceback is for the log."""
    async with server(KeyError("secret prompt")) as client, client.get("/v1/thing") as response:
        assert response.status == 500
        assert "secret" not in await response.text()


@pytest.mark.parametrize("lost", [ConnectionResetError("closing"), ConnectionError("Connection lost")])
async def test_a_client_that_left_is_no_defect_of_ours(lost: ConnectionError) -> None:
    """The library names a connection that was lost during a wait otherwise than one lost before."""
    async with server(lost) as client, client.get("/v1/thing") as response:
        assert response.status == 499


async def test_a_defect_in_the_middle_of_an_answer_cuts_it() -> None:
    """No second answer is written into the first."""
    async with server(KeyError("late"), after=b"half") as client, client.get("/v1/thing") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_unknown_paths_and_methods_are_told_in_the_same_shape() -> None:
    """404, and 405 with what is allowed."""
    async with server(None) as client:
        assert await told(client, path="/v2/nothing") == (404, "not_found")
        async with client.post("/v1/thing") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


async def test_a_redirect_is_no_error() -> None:
    """It passes as it is."""
    async with (
        server(web.HTTPFound("/elsewhere")) as client,
        client.get("/v1/thing", allow_redirects=False) as response,
    ):
        assert response.status == 302


async def test_who_left_v1_out_of_the_base_url_is_told_so() -> None:
    """It is what a client of OpenAI's API does that gets 404 for everything."""
    async with server(None) as client, client.get("/chat/completions") as response:
        error = (await response.json())["error"]

    message = f"{NOTHING}: the base URL of OpenAI's clients ends with /v1"
    assert (error["code"], error["message"]) == ("not_found", message)


@pytest.mark.parametrize("path", ["/v1/v1/messages", "/v1/api/tags"])
async def test_who_put_v1_into_the_base_url_where_it_does_not_belong_is_told_so(path: str) -> None:
    """Anthropic's and Ollama's clients bring the whole path."""
    async with server(None) as client, client.get(path) as response:
        error = (await response.json())["error"]

    assert error["message"] == f"{NOTHING}: the base URL of Anthropic's and Ollama's clients ends without /v1"


def test_a_slash_too_many_is_told() -> None:
    """From a base URL with one at its end, to which some clients only add."""
    answer = translated(web.HTTPNotFound(), path="//v1/models")

    assert isinstance(answer.body, bytes)
    assert f"{NOTHING}: the base URL ends with a slash too many" in answer.body.decode()


@pytest.mark.parametrize("code", list(RULES))
def test_every_code_has_the_status_of_the_table(code: ErrorCode) -> None:
    """And the headers of its job."""
    response = failed_response(OPENAI, failed(code, "why"), {"X-Job-Id": "j"})

    assert (RULES[code].http_status, "j") == (response.status, response.headers["X-Job-Id"])


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (
            "/v1/messages/none",
            {"type": "error", "error": {"type": "not_found_error", "message": NOTHING}},
        ),
        ("/api/none", {"error": NOTHING}),
    ],
)
async def test_the_path_decides_about_the_form(path: str, form: object) -> None:
    """Also where nothing is."""
    async with server(None) as client, client.get(path) as response:
        assert (404, form) == (response.status, await response.json())


@pytest.mark.parametrize(("retry_after_ms", "header"), [(1, "1"), (1500, "2"), (60_000, "60"), (None, "5")])
def test_the_time_to_come_back_is_whole_seconds(retry_after_ms: int | None, header: str) -> None:
    """Rounded up, as coming early is of no use."""
    frame = JobError(job_id="j", error_code="rate_limited", message="", retry_after_ms=retry_after_ms)

    assert header == failed_response(OPENAI, failure_of(frame), {}).headers["Retry-After"]
