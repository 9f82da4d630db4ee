"""The command `simulate`, as a process."""

from typing import get_args

import aiohttp

from provider_agent.cli.simulate import Api
from provider_agent.simulator import config
from provider_agent.simulator.dialects import DIALECTS
from tests.fakes.programs import Program, command

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


async def test_it_says_where_it_listens_and_answers_there() -> None:
    """With the models, the API and the failures that were asked for."""
    arguments = ("--port", "0", "--model", "tiny", "--api", "ollama", "--tokens-per-second", "0")
    async with Program("simulate", *arguments, "--first-token-ms", "0", "--json") as program:
        listening = await program.event("listening")
        async with aiohttp.ClientSession(listening["url"]) as client:
            async with client.post("/v1/chat/completions", json=CHAT) as response:
                assert response.status == 200
            async with client.get("/api/tags") as response:
                assert (await response.json())["models"][0]["name"] == "tiny:latest"
        program.stop()
        ended = await program.end()

    assert (listening["models"], listening["api"]) == (["tiny"], "ollama")
    assert (ended.code, ended.stderr) == (0, "")


def test_every_dialect_can_be_chosen() -> None:
    """By the name that the simulator has for it."""
    assert [*Api] == [*get_args(config.Api)]
    assert {*Api} == DIALECTS.keys()


async def test_an_engine_may_be_cold_and_below_a_folder() -> None:
    """The address is the one to tell the agent."""
    arguments = ("--engine", "docker", "--load-s", "3600", "--port", "0", "--model", "tiny")
    async with Program("simulate", *arguments, "--json") as program:
        url = (await program.event("listening"))["url"]
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{url}/v1/models") as response:
                assert (await response.json())["data"][0]["id"] == "tiny"
            async with client.get(f"{url}/ps") as response:
                assert await response.json() == []

    assert url.endswith("/engines")


async def test_failures_can_be_ordered_for_every_answer() -> None:
    """No header needed: the request may come through others."""
    async with Program("simulate", "--port", "0", "--fail", "status=429", "--json") as program:
        url = (await program.event("listening"))["url"]
        body = {**CHAT, "model": "simulated-7b"}
        async with (
            aiohttp.ClientSession(url) as client,
            client.post("/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 429


async def test_a_misspelt_failure_is_a_usage_error() -> None:
    """And names those that exist."""
    ended = await command("simulate", "--fail", "statsu=429")

    assert ended.code == 64
    assert "statsu=429" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_taken_port_is_one_sentence() -> None:
    """With the remedy."""
    async with Program("simulate", "--port", "0", "--json") as program:
        port = (await program.event("listening"))["port"]
        ended = await command("simulate", "--port", str(port))

    assert ended.code == 69
    sentence = f"cannot listen on 127.0.0.1 port {port}: address already in use; choose another --port"
    assert ended.stderr == f"provider-agent: {sentence}\n"
