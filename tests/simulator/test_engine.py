"""Answers over real HTTP: pace, slots, clients that leave, and every failure that can be ordered."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from provider_agent.simulator import Failures, Pace
from provider_agent.simulator.failures import HEADER
from tests.fakes.simulators import CHAT, STREAMED, simulated, until_slots


async def ask(
    client: aiohttp.ClientSession, body: Any, order: str = "", path: str = "/v1/chat/completions"
) -> tuple[int, str, bytes]:
    """(status, content type, body)."""
    async with client.post(path, json=body, headers={HEADER: order}) as response:
        return response.status, response.content_type, await response.read()


async def test_a_stream_ends_with_its_mark() -> None:
    """The ordinary case: an event stream, whole."""
    async with simulated() as (_, client):
        status, kind, body = await ask(client, STREAMED)

    assert (status, kind) == (200, "text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_answer_of_a_known_length_takes_its_time() -> None:
    """40 ms to the first token and 20 more at 1,000 a second: never faster than ordered."""
    async with simulated(pace=Pace(0.04, 1000)) as (_, client):
        start_s = asyncio.get_running_loop().time()
        await ask(client, {**STREAMED, "max_tokens": 21})
        took_s = asyncio.get_running_loop().time() - start_s

    assert took_s >= 0.058


async def test_the_surplus_waits_silently_without_headers() -> None:
    """As in llama-server: no 429, not a byte, until a slot is free."""
    async with simulated(slots=1, pace=Pace(0.0, 0.1)) as (simulator, client):
        first = await client.post("/v1/chat/completions", json=STREAMED)
        second = asyncio.create_task(ask(client, {**CHAT, "max_tokens": 1}))
        await until_slots(simulator, busy=1, waiting=1)
        assert not second.done()
        first.close()
        status, _, _ = await second

    assert status == 200


async def test_a_client_that_leaves_frees_its_slot_at_once() -> None:
    """Also before the first byte, and while it waits: closing the connection is the cancel."""
    async with simulated(slots=1, pace=Pace(3600.0, 1)) as (simulator, client):
        working = asyncio.create_task(ask(client, CHAT))
        await until_slots(simulator, busy=1, waiting=0)
        waiting = asyncio.create_task(ask(client, CHAT))
        await until_slots(simulator, busy=1, waiting=1)
        waiting.cancel()
        await until_slots(simulator, busy=1, waiting=0)
        working.cancel()
        await until_slots(simulator, busy=0, waiting=0)


BODIES = [CHAT, STREAMED]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("status", "retry_after"), [(401, None), (429, "1"), (500, None), (503, "1")])
async def test_a_status_on_order(body: dict[str, Any], status: int, retry_after: str | None) -> None:
    """Before any byte of an answer, streamed or not."""
    ordered = simulated(failures=Failures(status=status))
    async with ordered as (_, client), client.post("/v1/chat/completions", json=body) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"]) == (status, status)
    assert response.headers.get("Retry-After") == retry_after


@pytest.mark.parametrize("body", BODIES)
async def test_a_page_on_order(body: dict[str, Any]) -> None:
    """200, and yet no answer."""
    async with simulated() as (_, client):
        status, kind, page = await ask(client, body, "html")

    assert (status, kind) == (200, "text/html")
    assert page.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(("body", "expected"), [(CHAT, "application/json"), (STREAMED, "text/event-stream")])
async def test_an_empty_body_on_order(body: dict[str, Any], expected: str) -> None:
    """The right type, and nothing in it."""
    async with simulated() as (_, client):
        assert await ask(client, body, "empty") == (200, expected, b"")


async def test_an_error_event_on_order() -> None:
    """After five tokens, and nothing behind it."""
    async with simulated() as (_, client):
        _, _, body = await ask(client, STREAMED, "error-after=5")
    events = body.strip().split(b"\n\n")

    assert len(events) == 1 + 5 + 1
    assert b'"error"' in events[-1]


async def test_an_error_event_on_order_in_ollamas_way() -> None:
    """A last line with the error, status 200."""
    async with simulated(api="ollama") as (_, client):
        status, kind, body = await ask(client, CHAT, "error-after=5", path="/api/chat")
    lines = body.splitlines()

    assert (status, kind, len(lines)) == (200, "application/x-ndjson", 6)
    assert lines[-1].startswith(b'{"error":"')


async def test_a_broken_connection_on_order() -> None:
    """The body is not whole, and HTTP shows it."""
    async with simulated() as (_, client):
        for body in BODIES:
            with pytest.raises(aiohttp.ClientPayloadError):
                await ask(client, body, "cut-after=5")


async def test_a_clean_end_without_mark_on_order() -> None:
    """Only the missing mark, or the half of a JSON body, tells."""
    async with simulated() as (_, client):
        _, _, streamed = await ask(client, STREAMED, "end-after=5")
        _, _, whole = await ask(client, CHAT, "end-after=5")

    assert streamed.count(b"data: ") == 1 + 5
    assert b'finish_reason":"' not in streamed
    assert not whole.endswith(b"}")


async def test_no_end_mark_on_order() -> None:
    """Whole with its finish reason, as `transformers serve` ends."""
    async with simulated() as (_, client):
        _, _, body = await ask(client, STREAMED, "no-done")

    assert b'"finish_reason":"stop"' in body
    assert b"[DONE]" not in body


async def test_silence_on_order_lasts_until_the_client_leaves() -> None:
    """And then the slot is free."""
    async with simulated() as (simulator, client):
        response = await client.post(
            "/v1/chat/completions", json=STREAMED, headers={HEADER: "silence-after=1"}
        )
        assert b"assistant" in await response.content.readline()
        assert simulator.slots.busy == 1
        response.close()
        await until_slots(simulator, busy=0, waiting=0)


async def test_an_error_on_order_without_a_stream_is_a_500() -> None:
    """There is no stream to put it in."""
    async with simulated() as (_, client):
        status, _, body = await ask(client, CHAT, "error-after=5")

    assert status == 500
    assert b'"error"' in body


async def test_slow_headers_on_order() -> None:
    """Nothing at all before them."""
    async with simulated() as (_, client):
        start_s = asyncio.get_running_loop().time()
        async with client.post("/v1/chat/completions", json=STREAMED, headers={HEADER: "slow-headers=50"}):
            took_s = asyncio.get_running_loop().time() - start_s

    assert took_s >= 0.049


async def test_an_answer_shorter_than_the_order_is_whole() -> None:
    """A failure after the end is none."""
    async with simulated() as (_, client):
        _, _, body = await ask(client, {**STREAMED, "max_tokens": 3}, "error-after=4")

    assert body.endswith(b"[DONE]\n\n")


async def test_an_order_that_does_not_exist_is_refused() -> None:
    """A misspelt order must not pass as a healthy engine."""
    async with simulated() as (_, client):
        status, _, body = await ask(client, CHAT, "cut-afer=5")

    assert status == 400
    assert b"cut-after=N" in body


async def test_llamacpp_drops_the_connection_after_a_stream() -> None:
    """It announces nothing of the kind."""
    async with simulated(api="llamacpp") as (simulator, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        body = json.dumps({**STREAMED, "max_tokens": 3}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        said = await reader.read()
        writer.close()

    assert said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"Connection: close" not in said


async def test_embeddings_take_a_slot_and_fail_on_order() -> None:
    """As any other answer."""
    body = {"model": "a", "input": "hello"}
    async with simulated(slots=1, pace=Pace(3600.0, 1)) as (simulator, client):
        working = asyncio.create_task(ask(client, body, path="/v1/embeddings"))
        await until_slots(simulator, busy=1)
        working.cancel()
        await until_slots(simulator, busy=0)
        status, _, _ = await ask(client, body, "status=500", path="/v1/embeddings")

    assert status == 500
