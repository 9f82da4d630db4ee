"""Web pages of the origins that the operator names may read what clients get; others may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from provider_agent.coordinator.http.cors import Cors
from provider_agent.coordinator.http.errors import RequestError, tell_errors

PAGE = "https://chat.example.org"
CHAT = "/v1/chat/completions"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


async def serve(request: web.Request) -> web.StreamResponse:
    """A door that streams."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write_eof(b"data: [DONE]\n\n")
    return response


async def refuse(_request: web.Request) -> web.Response:
    """A door that knows no key."""
    raise RequestError(401, "invalid_api_key", "no")


@asynccontextmanager
async def server(*origins: str) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=[tell_errors])
    app.router.add_post(CHAT, serve)
    app.router.add_get("/api/tags", refuse)
    app.router.add_get("/metrics", serve)
    Cors(origins).add_to(app)
    async with TestClient(TestServer(app)) as client:
        yield client


def readable_by(response: ClientResponse) -> str | None:
    return response.headers.get("Access-Control-Allow-Origin")


async def test_a_page_of_a_named_origin_may_read_a_stream() -> None:
    """The ordinary case; its job and its agent are told to the page, too."""
    async with server(PAGE) as client, client.post(CHAT, headers={"Origin": PAGE}) as response:
        assert (response.status, readable_by(response)) == (200, PAGE)

    assert response.headers["Vary"] == "Origin"
    assert response.headers["Access-Control-Expose-Headers"] == "X-Job-Id, X-Agent, Retry-After"


async def test_an_origin_may_be_named_in_capitals() -> None:
    """Browsers write it without."""
    capitals = "https://Chat.Example.org"
    async with server(capitals) as client, client.post(CHAT, headers={"Origin": PAGE}) as response:
        assert readable_by(response) == PAGE


async def test_a_page_of_a_named_origin_may_read_a_refusal() -> None:
    """Else its user would see a network error instead of the reason."""
    async with server(PAGE) as client, client.get("/api/tags", headers={"Origin": PAGE}) as response:
        assert (response.status, readable_by(response)) == (401, PAGE)


async def test_a_browser_that_asks_first_is_told_what_the_page_may_send() -> None:
    """Without a key, and header by header: OpenAI's client for browsers sends a dozen of its own."""
    async with server(PAGE) as client, client.options(CHAT, headers=PREFLIGHT) as response:
        assert (response.status, readable_by(response)) == (204, PAGE)

    assert response.headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
    assert "POST" in response.headers["Access-Control-Allow-Methods"]


async def test_names_of_headers_that_are_none_are_not_repeated() -> None:
    """What comes back in a header of ours is made of names and commas."""
    odd = PREFLIGHT | {"Access-Control-Request-Headers": "a; b=<c>"}
    async with server(PAGE) as client, client.options(CHAT, headers=odd) as response:
        assert "Access-Control-Allow-Headers" not in response.headers


@pytest.mark.parametrize(
    ("origins", "page", "path"),
    [
        ([PAGE], "https://evil.example.org", CHAT),
        ([PAGE], "http://chat.example.org", CHAT),
        ([PAGE], f"{PAGE}:8443", CHAT),
        ([PAGE], PAGE, "/metrics"),
        (["*"], PAGE, "/metrics"),
        ([], PAGE, CHAT),
    ],
)
async def test_nobody_else_may_read_anything(origins: list[str], page: str, path: str) -> None:
    """No other origin, nobody unless the operator says so, and what is for the operator no page at all."""
    headers = PREFLIGHT | {"Origin": page}
    async with server(*origins) as client:
        for method in ("OPTIONS", "GET", "POST"):
            async with client.request(method, path, headers=headers) as response:
                assert readable_by(response) is None
                assert response.status != 204


async def test_every_page_may_read_where_the_operator_says_so() -> None:
    """One answer for all, so no cache need tell them apart."""
    async with server("*") as client, client.post(CHAT, headers={"Origin": PAGE}) as response:
        assert (readable_by(response), "Vary" in response.headers) == ("*", False)


async def test_programs_see_no_difference() -> None:
    """They send no origin."""
    async with server(PAGE) as client, client.post(CHAT) as response:
        assert (response.status, readable_by(response)) == (200, None)
