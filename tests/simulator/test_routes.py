"""From a dialect to routes: places, names of models, refusals, words of the server."""

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from provider_agent.simulator import SimulatorConfig
from provider_agent.simulator.dialects import DIALECTS
from provider_agent.simulator.dialects.base import Dialect
from provider_agent.simulator.engine import Engine
from provider_agent.simulator.routes import Routes
from tests.fakes.simulators import CHAT, HandTime, simulated
from tests.simulator.dialects.test_base import view


class LeavingClient(Routes):
    """Its pages are written to somebody who is not there any more."""

    def _page(self, _page: object) -> Any:
        async def handle(_request: web.Request) -> web.StreamResponse:
            raise ConnectionResetError("Cannot write to closing transport")

        return self._guarded("", handle)


async def post(client: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json(content_type=None)


def places(dialect: Dialect) -> set[str]:
    engine = Engine(SimulatorConfig(models=("a",)), dialect)
    return {route.path for route in Routes(dialect, engine, view())}


def test_all_of_a_dialect_has_its_place() -> None:
    """Pages, questions and endpoints; `/v1` below the family's folder."""
    assert {"/api/tags", "/api/show", "/api/chat", "/v1/models"} <= places(DIALECTS["ollama"])
    assert {"/engines/v1/models", "/engines/v1/messages", "/models"} <= places(DIALECTS["docker"])


async def test_an_engine_with_one_model_does_not_read_the_name() -> None:
    """Any name, or none; and it calls its model whatever the request calls it."""
    async with simulated(api="tgi") as (_, client):
        _, named = await post(client, "/v1/chat/completions", {**CHAT, "model": "gpt-4"})
        status, _ = await post(client, "/v1/chat/completions", {"messages": CHAT["messages"]})

    assert (named["model"], status) == ("gpt-4", 200)


@pytest.mark.parametrize(
    ("api", "refusal"),
    [
        ("sglang", {"object": "error", "message": "messages must be a list with at least one message"}),
        ("transformers", {"detail": "messages must be a list with at least one message"}),
    ],
)
async def test_refusals_have_the_familys_form(api: str, refusal: dict[str, str]) -> None:
    """Of OpenAI's API."""
    async with simulated(api=api) as (_, client):
        status, body = await post(client, "/v1/chat/completions", {"model": "a"})

    assert status == 400
    assert body.items() >= refusal.items()


async def test_messages_are_refused_in_their_own_form() -> None:
    """Also when the prompt is too long."""
    async with simulated(api="llamacpp", context_window=2) as (_, client):
        long = await post(client, "/v1/messages", {**CHAT, "max_tokens": 5})
        bad = await post(client, "/v1/messages", CHAT)

    assert [long[0], bad[0]] == [400, 400]
    assert {each["error"]["type"] for each in (long[1], bad[1])} == {"invalid_request_error"}


async def test_a_family_may_name_itself_in_each_answer() -> None:
    """llama.cpp does, also while it loads."""
    time = HandTime()
    async with simulated(api="llamacpp") as (_, client), client.get("/v1/models") as response:
        assert response.headers["Server"] == "llama.cpp"
    engine = Engine(SimulatorConfig(load_s=1), DIALECTS["llamacpp"], clock=time, sleep=time.sleep)

    assert engine.is_starting
    time.advance(1)
    assert not engine.is_starting


async def test_ollama_loads_without_a_prompt() -> None:
    """As JSON, and without a slot."""
    async with (
        simulated(api="ollama") as (simulator, client),
        client.post("/api/generate", json={"model": "a", "keep_alive": 0}) as response,
    ):
        assert response.content_type == "application/json"
        assert json.loads(await response.read())["done_reason"] == "unload"
        assert not simulator.memory.has("a:latest")


async def test_a_client_that_left_is_no_defect_of_the_engine() -> None:
    """It may leave in the very moment in which its answer begins."""
    dialect = DIALECTS["openai"]
    app = web.Application()
    app.add_routes(list(LeavingClient(dialect, Engine(SimulatorConfig(), dialect), view())))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/models"
        async with aiohttp.request("GET", url) as response:
            assert response.status == 499
    finally:
        await runner.cleanup()
