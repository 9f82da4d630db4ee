"""The whole coordinator in one process, over real sockets on loopback."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from provider_agent.coordinator.app import CannotListen, run
from provider_agent.coordinator.config import ConfigError, CoordinatorConfig, load
from provider_agent.coordinator.store.base import StoreError, digest
from provider_agent.coordinator.store.sqlite import DATABASE_FILE, open_sqlite
from provider_agent.protocol.frames import AuthFailed, Job, JobAck
from provider_agent.transport.channel import ChannelClosed
from provider_agent.transport.dialled import DialOptions, dial
from tests.fakes.peers import ScriptedAgent

LIMIT_S = 10.0


@dataclass
class Running:
    """A coordinator that listens."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    listening: asyncio.Future[dict[str, object]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[str] = field(default_factory=list)
    port: int = 0
    url: str = ""
    agents_url: str = ""
    exit_code: int | None = None

    def on_event(self, name: str, fields: dict[str, object]) -> None:
        self.events.append(name)
        if name == "listening":
            self.listening.set_result(fields)
        if name == "draining":
            self.draining.set()

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with aiohttp.ClientSession() as client, client.get(self.url + path, **options) as response:
            return response.status, await response.text()

    async def agent(self, model: str = "m", code: str | None = None) -> ScriptedAgent:
        agent = ScriptedAgent(await dial(self.agents_url, DialOptions()), host="127.0.0.1")
        await agent.join(model, enrollment_code=code)
        return agent


@asynccontextmanager
async def running(config: CoordinatorConfig) -> AsyncIterator[Running]:
    """A coordinator with this configuration, stopped at the end."""
    it = Running()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:

        async def serve() -> None:
            it.exit_code = await run(config, stop=it.stop, on_event=it.on_event)

        tasks.create_task(serve())
        address = await it.listening
        it.port = int(str(address["port"]))
        it.url, it.agents_url = str(address["url"]), str(address["agents_url"])
        try:
            yield it
        finally:
            it.stop.set()


def dev() -> CoordinatorConfig:
    """`--dev` on any free port."""
    return load({"dev": True, "listen": "127.0.0.1:0"}, {})


def chat() -> dict[str, Any]:
    """A request as `aiohttp` takes it."""
    return {"json": {"model": "m", "messages": []}}


async def test_a_prompt_goes_from_the_client_to_the_agent_and_back() -> None:
    """The ordinary case, with all parts as they are wired."""
    async with running(dev()) as it:
        agent = await it.agent()
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(agent.serve(b'{"choices":[]}'))
            async with client.post(f"{it.url}/v1/chat/completions", **chat()) as response:
                assert (response.status, await response.text()) == (200, '{"choices":[]}')

        assert serving.result().model_id == "m"
        assert "provider_coordinator_agents 1.0" in (await it.get("/metrics"))[1]
        await agent.close()
    assert it.exit_code == 0
    assert it.events[0] == "listening"
    assert it.events[-1] == "stopped"
    assert "agent_joined" in it.events


async def test_without_dev_clients_need_a_key_and_agents_a_code(tmp_path: Path) -> None:
    """Both made in another process while the coordinator runs."""
    config = load({"data": tmp_path, "listen": "127.0.0.1:0"}, {})
    async with running(config) as it:
        assert (await it.get("/v1/models"))[0] == 401
        stranger = ScriptedAgent(await dial(it.agents_url, DialOptions()), host="127.0.0.1")
        await stranger.respond()
        assert (await stranger.expect(AuthFailed)).code == "unknown_identity"
        await stranger.close()

        operator = await open_sqlite(tmp_path)
        await operator.add_key(digest("sk-pa-1"), "alice", 0)
        await operator.add_token(digest("code"), "den", 0, 2**40)
        await operator.close()

        agent = await it.agent(code="code")
        status, models = await it.get("/v1/models", headers={"Authorization": "Bearer sk-pa-1"})
        assert status == 200
        assert [model["id"] for model in json.loads(models)["data"]] == ["m"]
        await agent.close()


async def test_a_stopping_coordinator_lets_running_jobs_end_and_calls_itself_not_ready() -> None:
    """New jobs are refused meanwhile; then agents are sent away to come back soon."""
    async with running(dev()) as it:
        agent = await it.agent()
        async with aiohttp.ClientSession() as client:
            answer = asyncio.create_task(client.post(f"{it.url}/v1/chat/completions", **chat()))
            job = await agent.expect(Job)
            it.stop.set()
            await it.draining.wait()

            assert (await it.get("/readyz"))[0] == 503
            assert (await it.get("/healthz"))[0] == 200
            async with client.post(f"{it.url}/v1/chat/completions", **chat()) as refused:
                assert refused.status == 503

            await agent.start(job, content_type="application/json")
            await agent.chunk(job.job_id, b"{}")
            await agent.done(job.job_id)
            async with await answer as response:
                assert (response.status, await response.text()) == (200, "{}")
            await agent.expect(JobAck)
            with pytest.raises(ChannelClosed) as closed:
                await agent.hear()
    assert (closed.value.code, closed.value.reason) == (1001, "drain:deploy")
    assert it.exit_code == 0


async def test_a_job_that_does_not_end_holds_up_a_stop_for_a_bounded_time() -> None:
    """Its client is not told that the answer is whole."""
    config = load({"dev": True, "listen": "127.0.0.1:0", "shutdown_grace_s": 0.05}, {})
    async with running(config) as it:
        agent = await it.agent()
        async with aiohttp.ClientSession() as client:
            answer = asyncio.create_task(client.post(f"{it.url}/v1/chat/completions", **chat()))
            await agent.expect(Job)
            it.stop.set()

            async with await answer as response:
                assert response.status == 503
            with pytest.raises(ChannelClosed):
                await agent.until(AuthFailed)
    assert it.exit_code == 0


async def test_a_request_that_is_no_http_is_refused_in_the_usual_shape() -> None:
    """The port is one whose connections do not quote a client's bytes."""
    async with running(dev()) as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer sk-\x01\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


async def test_a_web_page_reads_the_answers_where_the_operator_lets_it() -> None:
    """To nobody's page, unless told so."""
    page = {"Origin": "https://chat.example"}
    for more, allowed in (({}, None), ({"cors_origins": [page["Origin"]]}, page["Origin"])):
        async with (
            running(load({"dev": True, "listen": "127.0.0.1:0", **more}, {})) as it,
            aiohttp.ClientSession(it.url) as client,
            client.get("/v1/models", headers=page) as response,
        ):
            assert response.headers.get("Access-Control-Allow-Origin") == allowed


async def test_with_a_certificate_it_speaks_tls(tmp_path: Path) -> None:
    """On the one port, to clients and agents."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    pem = tmp_path / "server.pem"
    flags = {"dev": True, "listen": "127.0.0.1:0", "tls_cert_file": pem, "tls_key_file": pem}

    async with running(load(flags, {})) as it:
        assert it.url.startswith("https://")
        assert it.agents_url.startswith("wss://")
        assert (await it.get("/healthz", ssl=trusting))[0] == 200


async def test_tls_files_that_hold_no_certificate_are_a_settings_error(tmp_path: Path) -> None:
    """Before anything is opened."""
    pem = tmp_path / "server.pem"
    pem.write_text("nothing")
    config = load({"dev": True, "tls_cert_file": pem, "tls_key_file": pem}, {})

    with pytest.raises(
        ConfigError, match=r"server\.pem cannot be used: not a certificate or key in PEM; give"
    ):
        await run(config, stop=asyncio.Event())


async def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    """It may be free later, so it is told apart from addresses that never work."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = load({"data": tmp_path, "listen": f"127.0.0.1:{port}"}, {})

        with pytest.raises(CannotListen) as caught:
            await run(config, stop=asyncio.Event())
    assert caught.value.in_use
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is in use; stop what uses it, or choose another with --listen HOST:PORT"
    )


async def test_an_address_of_another_machine_cannot_be_listened_on(tmp_path: Path) -> None:
    """The sentence says what the system said."""
    config = load({"data": tmp_path, "listen": "192.0.2.1:0"}, {})

    with pytest.raises(
        CannotListen,
        match=r"cannot listen on 192\.0\.2\.1 port 0: cannot assign requested address; choose another",
    ) as caught:
        await run(config, stop=asyncio.Event())
    assert not caught.value.in_use


async def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """Rather than serving without keys."""
    (tmp_path / DATABASE_FILE).write_bytes(b"dear diary, " * 100)

    with pytest.raises(StoreError):
        await run(load({"data": tmp_path}, {}), stop=asyncio.Event())
