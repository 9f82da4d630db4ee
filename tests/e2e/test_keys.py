"""A coordinator as it runs in production: enrolment by code, clients by key, all of it remembered."""

import asyncio
from pathlib import Path

import aiohttp

from tests.fakes.lines import LIMIT_S, agent, ask, chat, coordinator, engine
from tests.fakes.programs import command


async def test_only_who_was_let_in_serves_and_asks(tmp_path: Path) -> None:
    """The code binds the agent's key once; after that, and after a restart, the signature is enough."""
    data = str(tmp_path / "data")
    code = await secret("coordinator", "token", "create", "--data", data)
    key = await secret("coordinator", "key", "create", "alice", "--data", data)
    async with asyncio.timeout(LIMIT_S), engine() as sim:
        engine_url = (await sim.event("listening"))["url"]
        async with coordinator("--data", data) as front:
            listening = await front.event("listening")
            with_code = {"PROVIDER_AGENT__COORDINATOR__ENROLLMENT_CODE": code}
            async with agent(tmp_path, listening["agents_url"], engine_url, **with_code) as worker:
                await worker.event("ready")
                assert await status(listening["url"], key) == 200
                assert await status(listening["url"], "wrong") == 401
        async with coordinator("--data", data) as front:
            listening = await front.event("listening")
            async with agent(tmp_path, listening["agents_url"], engine_url) as worker:
                await worker.event("ready")
                assert await status(listening["url"], key) == 200


async def test_an_agent_that_nobody_let_in_stops_with_78(tmp_path: Path) -> None:
    """Trying again cannot help, so it does not; field note 39."""
    async with asyncio.timeout(LIMIT_S), coordinator("--data", str(tmp_path / "data")) as front:
        agents_url = (await front.event("listening"))["agents_url"]
        async with agent(tmp_path, agents_url) as worker:
            ended = await worker.end()

    assert ended.code == 78


async def secret(*arguments: str) -> str:
    """What a command prints once, alone on its line."""
    ended = await command(*arguments)
    assert ended.code == 0, ended.stderr
    return ended.stdout.strip()


async def status(url: str, key: str) -> int:
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as client:
        return (await ask(client, chat()))[0]
