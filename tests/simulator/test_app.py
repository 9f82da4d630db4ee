"""The simulated engine over real HTTP: routes, start and stop."""

import asyncio
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from provider_agent.simulator import Pace, Simulator, SimulatorConfig
from tests.fakes.simulators import CHAT, HandTime, simulated

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


async def post(client: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def get(client: aiohttp.ClientSession, path: str) -> Any:
    async with client.get(path) as response:
        return await response.json()


async def test_a_chat_is_answered() -> None:
    """The ordinary case."""
    async with simulated() as (_, client):
        status, body = await post(client, "/v1/chat/completions", CHAT)

    assert status == 200
    assert body["choices"][0]["message"]["content"].endswith(".")


async def test_a_completion_and_an_embedding_are_answered() -> None:
    """The other endpoints of the same API."""
    async with simulated() as (_, client):
        _, completion = await post(client, "/v1/completions", {"model": "a", "prompt": "hello"})
        _, embedding = await post(client, "/v1/embeddings", {"model": "a", "input": "hello"})

    assert completion["choices"][0]["text"].endswith(".")
    assert embedding["data"][0]["embedding"]


async def test_it_says_its_models_and_its_health() -> None:
    """What an agent looks at."""
    async with simulated(slots=3) as (_, client):
        models = await get(client, "/v1/models")
        health = await get(client, "/health")

    assert [card["id"] for card in models["data"]] == ["a"]
    assert health == {"status": "ok", "slots": {"total": 3, "busy": 0, "waiting": 0}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_openai_refusals_are_errors_of_that_api(path: str) -> None:
    """An unknown model is 404, a bad body 400."""
    async with simulated() as (_, client):
        unknown = await post(client, path, {**CHAT, "model": "b"})
        bad = await post(client, path, [])

    assert (unknown[0], unknown[1]["error"]["type"]) == (404, "not_found_error")
    assert (bad[0], bad[1]["error"]["type"]) == (400, "invalid_request_error")


async def test_a_body_that_is_not_json_is_refused() -> None:
    """The client's fault, said so."""
    async with simulated() as (_, client), client.post("/v1/completions", data=b"{") as response:
        assert response.status == 400


async def test_a_prompt_beyond_the_window_is_refused() -> None:
    """With the numbers in it."""
    async with simulated(context_window=2) as (_, client):
        status, body = await post(client, "/v1/chat/completions", CHAT)

    assert (status, body["error"]["n_ctx"]) == (400, 2)


async def test_ollama_answers_in_its_own_way() -> None:
    """Every route an agent or a client asks for."""
    async with simulated(api="ollama") as (_, client):
        async with client.get("/") as response:
            assert await response.text() == "Ollama is running"
        assert "version" in await get(client, "/api/version")
        assert (await get(client, "/api/tags"))["models"][0]["name"] == "a:latest"
        assert (await get(client, "/api/ps"))["models"][0]["name"] == "a:latest"
        assert (await post(client, "/api/show", {"model": "a"}))[1]["capabilities"]
        assert (await post(client, "/api/embed", {"model": "a", "input": "x"}))[1]["embeddings"]
        _, chat = await post(client, "/api/chat", {**CHAT, "model": "a:latest", "stream": False})
        assert chat["message"]["content"].endswith(".")
        _, generated = await post(client, "/api/generate", {"model": "a", "prompt": "x", "stream": False})
        assert generated["response"].endswith(".")
        _, nothing = await post(client, "/api/generate", {"model": "a"})
        assert nothing["done_reason"] == "load"
        status, _ = await post(client, "/v1/chat/completions", CHAT)
        assert status == 200


async def test_ollama_refusals_are_plain_texts() -> None:
    """For an unknown model as in the original."""
    async with simulated(api="ollama") as (_, client):
        unknown = await post(client, "/api/chat", {**CHAT, "model": "b"})
        bad = await post(client, "/api/chat", {"model": 5})

    assert unknown == (404, {"error": "model 'b' not found"})
    assert bad == (400, {"error": "model is required"})


async def test_an_openai_engine_has_no_ollama_routes() -> None:
    """Engines are told by what they answer."""
    async with simulated() as (_, client), client.get("/api/version") as response:
        assert response.status == 404


async def test_a_taken_port_is_an_error_at_the_start() -> None:
    """And leaves nothing open behind it."""
    async with simulated() as (simulator, _):
        with pytest.raises(OSError, match="address already in use"):
            await Simulator(SimulatorConfig(port=simulator.port)).__aenter__()


async def test_an_engine_that_loads_before_it_listens_has_its_port_already() -> None:
    """Whoever knocks is refused; a port that somebody else listens on is an error at the start."""
    time = HandTime()
    config = SimulatorConfig(api="vllm", load_s=60)
    async with Simulator(config, clock=time, sleep=time.sleep) as simulator:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", simulator.port)
    async with simulated() as (other, _):
        with pytest.raises(OSError, match="ddress already in use"):
            await Simulator(SimulatorConfig(api="vllm", load_s=60, port=other.port)).__aenter__()


async def test_stopping_cuts_answers_under_way() -> None:
    """The engine goes at once; a client sees a body that is not whole."""
    async with aiohttp.ClientSession() as client:
        async with Simulator(SimulatorConfig(models=("a",), pace=Pace(0.0, 0.1))) as simulator:
            url = f"{simulator.url}/v1/chat/completions"
            response = await client.post(url, json={**CHAT, "stream": True})
            await response.content.readline()

        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_the_openai_client_finds_nothing_missing() -> None:
    """Tools, streams with usage and base64 embeddings, as the official client reads them."""
    weather: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with (
        simulated() as (simulator, _),
        AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0) as client,
    ):
        called = await client.chat.completions.create(
            model="a", messages=HELLO, tools=[weather], tool_choice="required"
        )
        stream = await client.chat.completions.create(
            model="a", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        embedded = await client.embeddings.create(model="a", input=["hello"])

    call = (called.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len([c for c in chunks if c.choices]) - 2
    assert len(embedded.data[0].embedding) == 64


async def test_the_openai_client_understands_responses() -> None:
    """Event by event, to the last one with its usage."""
    async with (
        simulated(api="vllm") as (simulator, _),
        AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0) as client,
    ):
        stream = await client.responses.create(model="a", input="hello", stream=True)
        events = [event async for event in stream]
        whole = await client.responses.create(model="a", input="hello")

    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text != ""
    assert last.response.usage == whole.usage
