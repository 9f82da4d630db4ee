"""HTTP as probes, scrapers, browsers and strangers speak it."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import pytest

from provider_agent.agent.pages import MOST_CONNECTIONS, REQUEST_BYTES, SILENCE_S, Page, serving

LONG = b"x" * 4_000_000
PAGES = {
    "/hello": lambda: Page(b"hello\n"),
    "/ill": lambda: Page(b"{}", "application/json", HTTPStatus.SERVICE_UNAVAILABLE),
    "/long": lambda: Page(LONG),
}


@dataclass
class Visitor:
    """Somebody on a connection of their own, who may say any bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> tuple[int, dict[str, str], bytes]:
        """One answer: status, headers in lower case, body."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        """All that comes until the connection is closed, however it is closed."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def server(silence_s: float = SILENCE_S) -> AsyncIterator[tuple[str, int]]:
    async with serving(PAGES, "127.0.0.1", 0, silence_s=silence_s) as address:
        yield address


@asynccontextmanager
async def visitor(address: tuple[str, int]) -> AsyncIterator[Visitor]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Visitor(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def guest() -> AsyncIterator[Visitor]:
    async with server() as address, visitor(address) as guest:
        yield guest


async def test_a_page_is_given_as_it_is_at_this_moment(guest: Visitor) -> None:
    """The ordinary case; nobody on the way may keep a copy."""
    guest.say(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, body = await guest.hear()

    assert (status, body) == (200, b"hello\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "no-store"


async def test_a_page_says_its_own_status_and_type(guest: Visitor) -> None:
    """Readiness is a status."""
    guest.say(b"GET /ill?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, body = await guest.hear()

    assert (status, headers["content-type"], body) == (503, "application/json", b"{}")


async def test_a_connection_serves_one_request_after_another(guest: Visitor) -> None:
    """A scraper keeps its connection; in parts, one by one, or several at once."""
    guest.say(b"GET /hel")
    guest.say(b"lo HTTP/1.1\r\nHost: x\r\n\r\n")
    first = await guest.hear()
    guest.say(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    second, third = await guest.hear(), await guest.hear()

    assert [status for status, _, _ in (first, second, third)] == [200, 200, 404]
    assert first[1]["connection"] == "keep-alive"


async def test_who_wants_the_connection_closed_has_it_closed(guest: Visitor) -> None:
    """Said in a header, or by the old version of HTTP."""
    guest.say(b"GET /hello HTTP/1.0\r\n\r\n")
    _, headers, _ = await guest.hear()

    assert headers["connection"] == "close"
    assert await guest.rest() == b""


async def test_head_gives_the_head_alone(guest: Visitor) -> None:
    """With the length that the body would have."""
    guest.say(b"HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await guest.rest()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405),
        (b"DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"this is no HTTP\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /hello HTTP/1.1\r\nX: " + b"y" * REQUEST_BYTES, 413),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"y" * REQUEST_BYTES, 413),
    ],
)
async def test_what_is_no_request_for_a_page_is_refused_as_such(
    guest: Visitor, request_bytes: bytes, status: int
) -> None:
    """Not found, not allowed, not HTTP (or TLS), too much."""
    guest.say(request_bytes)
    answered, headers, _ = await guest.hear()

    assert answered == status
    assert ("allow" in headers) is (status == 405)


async def test_an_offer_to_change_the_protocol_is_passed_over(guest: Visitor) -> None:
    """As curl makes one with --http2: the page comes, in the old protocol."""
    guest.say(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    status, _, body = await guest.hear()

    assert (status, body) == (200, b"hello\n")
    assert await guest.rest() == b""


async def test_silence_ends_a_connection() -> None:
    """Whoever connects and says nothing, or half of it, does not hold a socket for ever."""
    async with server(silence_s=0.02) as address, visitor(address) as guest:
        guest.say(b"GET /hello HT")
        assert await guest.rest() == b""


async def test_a_crowd_gets_no_more_sockets_than_are_good_for_us() -> None:
    """The one too many is closed, and the others are served."""
    async with server() as address:
        crowd = [await asyncio.open_connection(*address) for _ in range(MOST_CONNECTIONS + 1)]
        last, first = Visitor(*crowd[-1]), Visitor(*crowd[0])
        assert await last.rest() == b""

        first.say(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.hear())[0] == 200
        for _, writer in crowd:
            writer.close()


async def test_who_asks_and_asks_and_reads_nothing_is_given_up(guest: Visitor) -> None:
    """Answers must not pile up in memory."""
    guest.say(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

    assert len(await guest.rest()) < 2 * len(LONG)


async def test_an_open_connection_does_not_hold_up_the_end() -> None:
    """The agent leaves when it is told."""
    async with asyncio.timeout(10):
        async with server() as address:
            _, writer = await asyncio.open_connection(*address)
        writer.close()


async def test_the_clients_of_the_standard_library_are_content() -> None:
    """Another reading of HTTP than ours: two pages over one connection."""

    def visit(host: str, port: int) -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        answers = []
        for method, path in (("GET", "/hello"), ("HEAD", "/hello"), ("GET", "/ill")):
            connection.request(method, path)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()
        return answers

    async with server() as address:
        answers = await asyncio.to_thread(visit, *address)

    assert answers == [(200, b"hello\n"), (200, b""), (503, b"{}")]
