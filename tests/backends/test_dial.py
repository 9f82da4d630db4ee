"""Real sockets on loopback: which connections come about, and why others do not."""

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from provider_agent.backends.base import BackendUnreachable, FirstByteTimeout, OutOfSockets
from provider_agent.backends.dial import Dialler
from provider_agent.backends.proxy import Proxy
from provider_agent.backends.target import Target
from provider_agent.backends.wire import Wire
from tests.fakes.engine import FakeEngine
from tests.fakes.tunnels import TunnelProxy

LATE_S = 5.0


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
async def secure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeEngine]:
    """Speaks TLS as `localhost`; the system trusts it."""
    authority = trustme.CA()
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    fake = FakeEngine()
    fake.host = "localhost"
    fake.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(fake.tls)
    async with fake:
        yield fake


@pytest.fixture
async def held() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def dial(held: AsyncExitStack, target: Target, *, timeout_s: float = LATE_S) -> Wire:
    wire = await Dialler(timeout_s=timeout_s).dial(target, within_s=LATE_S)
    held.push_async_callback(wire.hang_up)
    return wire


async def ask(wire: Wire, target: Target) -> int:
    async with asyncio.timeout(LATE_S):
        wire.send(target.head("/v1/models", None, api_key=None, keeps=False), b"")
        return (await wire.answered()).status


async def test_an_engine_is_dialled(held: AsyncExitStack, engine: FakeEngine) -> None:
    """What is sent goes out at once: no token waits for a full packet."""
    target = Target(engine.url)
    wire = await dial(held, target)

    assert await ask(wire, target) == 200
    assert wire.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_name_is_dialled_where_it_answers(held: AsyncExitStack, engine: FakeEngine) -> None:
    """`localhost` may be two; the one that answered is the first of the next dial."""
    dialler, target = Dialler(timeout_s=LATE_S), Target(f"http://localhost:{engine.port}")
    for _ in range(2):
        wire = await dialler.dial(target, within_s=LATE_S)
        held.push_async_callback(wire.hang_up)
        assert await ask(wire, target) == 200

    _, (first, *_others) = dialler._addresses["localhost", engine.port]
    assert first.sockaddr[0] == "127.0.0.1"


async def test_ipv6_is_dialled(held: AsyncExitStack) -> None:
    """With brackets in the URL, and none on the way."""
    fake = FakeEngine()
    fake.host = "::1"
    async with fake:
        target = Target(fake.url)
        assert await ask(await dial(held, target), target) == 200
        assert fake.requests[0].headers["host"] == f"[::1]:{fake.port}"


async def test_tls_is_verified_with_what_the_system_trusts(held: AsyncExitStack, secure: FakeEngine) -> None:
    """By the name in the URL."""
    target = Target(secure.url)

    assert await ask(await dial(held, target), target) == 200


async def test_an_untrusted_certificate_is_unreachable(held: AsyncExitStack) -> None:
    """TLS is verified."""
    fake = FakeEngine()
    fake.host = "localhost"
    fake.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(fake.tls)
    async with fake:
        with pytest.raises(BackendUnreachable, match="certificate is not trusted"):
            await dial(held, Target(fake.url))


async def test_another_name_than_the_certificates_is_unreachable(
    held: AsyncExitStack, secure: FakeEngine
) -> None:
    """Whoever may have issued it."""
    with pytest.raises(BackendUnreachable, match="certificate is not trusted"):
        await dial(held, Target(f"https://127.0.0.1:{secure.port}"))


async def test_a_server_without_tls_is_unreachable(held: AsyncExitStack) -> None:
    """It answers the handshake with something else."""

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BackendUnreachable, match="speaks no TLS"):
            await dial(held, Target(f"https://127.0.0.1:{port}"))


async def test_a_closed_port_is_unreachable(held: AsyncExitStack, engine: FakeEngine) -> None:
    """The words hold no address; field note 31."""
    await engine.stop()
    for url in (engine.url, engine.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(BackendUnreachable, match=r"^the engine does not accept connections$"):
            await dial(held, Target(url))


async def test_an_unknown_host_is_unreachable(held: AsyncExitStack) -> None:
    """A typo in the configuration."""
    with pytest.raises(BackendUnreachable, match="host name is not known"):
        await dial(held, Target("http://engine.invalid:1"))


async def test_a_dial_has_a_limit(held: AsyncExitStack, engine: FakeEngine) -> None:
    """Field note 37: a port that accepts and then says nothing, here to TLS, is left soon."""
    target = Target(engine.url.replace("http:", "https:"))
    with pytest.raises(BackendUnreachable, match="does not accept connections in time"):
        await dial(held, target, timeout_s=0.05)
    with pytest.raises(FirstByteTimeout):
        await Dialler(timeout_s=LATE_S).dial(target, within_s=0.05)
    async with asyncio.timeout(LATE_S):
        for connection in engine.connections:
            await connection.closed.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_agent_without_a_socket_left_does_not_blame_the_engine(
    held: AsyncExitStack, engine: FakeEngine, host: str
) -> None:
    """It is our own shortage, and another agent may have sockets; names cannot even be looked up then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OutOfSockets):
            await dial(held, Target(f"http://{host}:{engine.port}"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_tunnel_leads_to_an_engine_behind_a_proxy(held: AsyncExitStack, secure: FakeEngine) -> None:
    """TLS is between us and the engine; the proxy's account is for the proxy."""
    async with TunnelProxy(secure.port) as proxy:
        target = Target("https://localhost", Proxy("127.0.0.1", proxy.port, False, "Basic eDp5"))
        assert await ask(await dial(held, target), target) == 200

    assert proxy.heads[0].startswith("CONNECT localhost:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic eDp5\r\n" in proxy.heads[0]
    assert "proxy-authorization" not in secure.requests[0].headers


async def test_a_proxy_may_speak_tls_itself(held: AsyncExitStack, secure: FakeEngine) -> None:
    """Then there is TLS within TLS."""
    async with TunnelProxy(secure.port, tls=secure.tls) as proxy:
        target = Target("https://localhost", Proxy("localhost", proxy.port, is_tls=True))
        assert await ask(await dial(held, target), target) == 200


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_makes_no_tunnel_is_said_to_be_the_trouble(
    held: AsyncExitStack, secure: FakeEngine, status: str
) -> None:
    """Not the engine."""
    async with TunnelProxy(secure.port, status=status) as proxy:
        target = Target("https://localhost", Proxy("127.0.0.1", proxy.port, is_tls=False))
        with pytest.raises(BackendUnreachable, match="proxy to the engine cannot be used"):
            await dial(held, target)


async def test_a_proxy_that_is_not_there_is_said_to_be_the_trouble(
    held: AsyncExitStack, engine: FakeEngine
) -> None:
    """Nor is its name a name of the engine's."""
    await engine.stop()
    for proxy in (Proxy("127.0.0.1", engine.port, is_tls=False), Proxy("proxy.invalid", 1, is_tls=False)):
        with pytest.raises(BackendUnreachable, match="proxy to the engine cannot be used"):
            await dial(held, Target("http://engine.example.com", proxy))
