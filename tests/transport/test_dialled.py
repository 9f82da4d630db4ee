"""Dialling over real loopback connections: what is said to open, who takes over, and every way to fail."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from provider_agent import __version__
from provider_agent.transport.dialled import DialError, DialOptions, dial
from provider_agent.transport.socket import ChannelClosed
from provider_agent.transport.websocket import WebSocketConnection
from tests.fakes.raw_websockets import half_open_server, silence
from tests.fakes.servers import tcp_server, websocket_server

QUICK = DialOptions(dial_timeout_s=5.0)


async def echo(accepted: WebSocketConnection) -> None:
    with contextlib.suppress(ChannelClosed):
        while True:
            accepted.send(await accepted.receive())
            accepted.flush()


async def received(dialled: WebSocketConnection) -> bytes:
    async with asyncio.timeout(10):
        return await dialled.receive()


async def answer_of(url: str, options: DialOptions, question: bytes = b"{}") -> bytes:
    """What the server at the other end says, in one short conversation."""
    dialled = await dial(url, options)
    dialled.send(question)
    dialled.flush()
    answer = await received(dialled)
    await dialled.close(1000, "")
    return answer


# --- the ordinary case -------------------------------------------------------------------


async def test_an_open_connection_is_handed_over() -> None:
    """To ours: messages go both ways."""
    async with websocket_server(echo) as url:
        assert await answer_of(url, QUICK) == b"{}"


async def test_the_agent_says_who_it_is_and_what_it_speaks() -> None:
    """User agent and subprotocol are in the request; compression, which would delay tokens, is not."""
    heads: list[str] = []
    async with half_open_server(heads=heads) as url:
        dialled = await dial(url, QUICK)
        dialled.abort(ChannelClosed(None, ""))
        await dialled.close(1000, "")

    lines = heads[0].split("\r\n")
    assert f"User-Agent: provider-agent/{__version__}" in lines
    assert "Sec-WebSocket-Protocol: provider-agent.v3" in lines
    assert "Sec-WebSocket-Extensions" not in heads[0]


async def test_what_comes_right_behind_the_handshake_is_received() -> None:
    """The first messages may share a packet with it, and even the goodbye may."""
    async with half_open_server(b"\x81\x01a\x82\x01b\x88\x02\x0f\xa2") as url:
        dialled = await dial(url, QUICK)
        assert [await received(dialled), await received(dialled)] == [b"a", b"b"]
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        await dialled.close(1000, "")

    assert closed.value.code == 4002


async def test_a_server_that_hangs_up_right_behind_the_handshake_is_noticed() -> None:
    """Whoever took the connection over must learn of its end, however early."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with half_open_server(b"\x81\x01a", then=hang_up) as url:
        dialled = await dial(url, QUICK)
        assert await received(dialled) == b"a"
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)

    assert (closed.value.code, closed.value.by_us) == (None, False)


@pytest.mark.parametrize("cut", [1, 30, -4, -3, -2, -1])
async def test_a_handshake_in_two_packets_opens_too(cut: int) -> None:
    """Wherever it is cut: the blank line at its end may be split."""

    async def whole(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x81\x01a")

    async with half_open_server(then=whole, cut=cut) as url:
        dialled = await dial(url, QUICK)
        assert await received(dialled) == b"a"
        await dialled.close(1000, "")


@pytest.mark.parametrize(
    "claim",
    [
        test_an_open_connection_is_handed_over,
        test_what_comes_right_behind_the_handshake_is_received,
        test_a_server_that_hangs_up_right_behind_the_handshake_is_noticed,
    ],
)
def test_the_other_event_loop_keeps_the_same_promises(claim: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """uvloop, which the programs run on."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(claim())


# --- ways not to get there ---------------------------------------------------------------


async def test_a_server_that_accepts_and_says_nothing_does_not_hang_the_agent() -> None:
    """The dial has a limit (field note 37)."""
    async with tcp_server(silence) as port:
        with pytest.raises(DialError, match=r"did not answer within 0\.1 s") as caught:
            await dial(f"ws://127.0.0.1:{port}/", DialOptions(dial_timeout_s=0.1))

    assert caught.value.kind == "timeout"


async def test_a_port_without_a_server_is_refused() -> None:
    """Names with several addresses, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DialError) as caught:
        await dial(f"ws://localhost:{port}/", QUICK)

    assert caught.value.kind == "refused"
    assert str(caught.value) == f"nothing listens at localhost:{port}: the connection was refused"


@pytest.mark.parametrize(
    ("answer", "status", "retry_after_s"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, None),
        (b"HTTP/1.1 503 Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503, 7.0),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 301, None),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", 200, None),
    ],
)
async def test_an_http_answer_is_told_with_its_status(
    answer: bytes, status: int, retry_after_s: float | None
) -> None:
    """Redirects are not followed: the signature is bound to the host that was dialled."""
    async with tcp_server(saying(answer)) as port:
        with pytest.raises(DialError, match=f"answers with HTTP {status} instead of a WebSocket") as caught:
            await dial(f"ws://127.0.0.1:{port}/", QUICK)

    assert (caught.value.kind, caught.value.http_status) == ("http", status)
    assert caught.value.retry_after_s == retry_after_s


async def test_what_is_no_http_is_told_as_such() -> None:
    """Another service listens there."""
    async with tcp_server(saying(b"SSH-2.0-server\r\n")) as port:
        with pytest.raises(DialError, match="does not answer like a WebSocket server") as caught:
            await dial(f"ws://127.0.0.1:{port}/", QUICK)

    assert caught.value.kind == "http"


async def test_a_proxy_that_refuses_is_told_as_such() -> None:
    """An explicit proxy is used, and its refusal is not the coordinator's."""
    async with tcp_server(saying(b"HTTP/1.1 407 Auth Required\r\nContent-Length: 0\r\n\r\n")) as port:
        with pytest.raises(
            DialError, match=r"the proxy on the way to coordinator\.test cannot be used"
        ) as caught:
            await dial("wss://coordinator.test/", DialOptions(proxy=f"http://127.0.0.1:{port}"))

    assert caught.value.kind == "proxy"


async def test_the_proxy_of_the_environment_is_used_but_not_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As other programs do; a demo on this machine must not leave it."""
    async with tcp_server(saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")) as port:
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(DialError) as proxied:
            await dial("wss://coordinator.test/", QUICK)
        async with websocket_server(echo) as url:
            assert await answer_of(url, QUICK) == b"{}"

    assert proxied.value.kind == "proxy"


# --- TLS ---------------------------------------------------------------------------------


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


def server_tls(ca: trustme.CA, *, wants_client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    if wants_client:
        ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trusting(ca: trustme.CA, folder: Path) -> Path:
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


async def test_a_trusted_server_is_talked_to_over_tls(ca: trustme.CA, tmp_path: Path) -> None:
    """With the authority of `ca_file`; the host name is sent (SNI) and checked."""
    async with websocket_server(echo, tls=server_tls(ca)) as url:
        assert await answer_of(url, DialOptions(ca_file=trusting(ca, tmp_path))) == b"{}"


async def test_an_unknown_authority_is_not_trusted(ca: trustme.CA, tmp_path: Path) -> None:
    """A certificate of somebody else's authority ends the dial."""
    async with websocket_server(echo, tls=server_tls(ca)) as url:
        with pytest.raises(DialError, match="is not trusted: unable to get local issuer") as caught:
            await dial(url, DialOptions(ca_file=trusting(trustme.CA(), tmp_path)))

    assert caught.value.kind == "tls"


async def test_a_certificate_for_another_host_is_not_trusted(ca: trustme.CA, tmp_path: Path) -> None:
    """Right authority, wrong name."""
    async with websocket_server(echo, tls=server_tls(ca)) as url:
        with pytest.raises(DialError, match="certificate is not valid for") as caught:
            await dial(url.replace("localhost", "127.0.0.1"), DialOptions(ca_file=trusting(ca, tmp_path)))

    assert caught.value.kind == "tls"


async def test_a_refused_client_certificate_is_told_as_such(ca: trustme.CA, tmp_path: Path) -> None:
    """In TLS 1.3 it looks like a server that hangs up; the sentence names the likely reason."""
    async with websocket_server(echo, tls=server_tls(ca, wants_client=True)) as url:
        with pytest.raises(DialError, match="another client certificate") as caught:
            await dial(url, DialOptions(ca_file=trusting(ca, tmp_path)))

    assert caught.value.kind == "client_certificate"


async def test_a_client_certificate_opens_the_door(ca: trustme.CA, tmp_path: Path) -> None:
    """Mutual TLS, with the certificate of `client_cert_file`."""
    own = tmp_path / "agent.pem"
    ca.issue_cert("agent").private_key_and_cert_chain_pem.write_to_path(own)
    async with websocket_server(echo, tls=server_tls(ca, wants_client=True)) as url:
        options = DialOptions(ca_file=trusting(ca, tmp_path), client_cert_file=own)

        assert await answer_of(url, options) == b"{}"


@asynccontextmanager
async def tunnel(port: int) -> AsyncIterator[str]:
    """A proxy that takes everybody to one port of this machine, whatever was asked for; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()

    async with tcp_server(serve) as proxy_port:
        yield f"http://127.0.0.1:{proxy_port}"


async def test_tls_through_a_proxy_carries_messages_of_any_size(ca: trustme.CA, tmp_path: Path) -> None:
    """The certificate is the coordinator's, not the proxy's."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("coordinator.test").configure_cert(context)
    large = b"x" * 3_000_000
    async with websocket_server(echo, tls=context) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        async with tunnel(port) as proxy:
            options = DialOptions(ca_file=trusting(ca, tmp_path), proxy=proxy)

            assert await answer_of(url.replace("localhost", "coordinator.test"), options, large) == large


@pytest.mark.parametrize(
    "claim",
    [test_a_trusted_server_is_talked_to_over_tls, test_tls_through_a_proxy_carries_messages_of_any_size],
)
def test_the_other_event_loop_keeps_the_same_promises_over_tls(
    claim: Callable[[trustme.CA, Path], Coroutine[Any, Any, None]], ca: trustme.CA, tmp_path: Path
) -> None:
    """The programs run on uvloop, which has its own TLS transports."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(claim(ca, tmp_path))


# --- bad peers ---------------------------------------------------------------------------


class saying:  # noqa: N801 - reads as a verb where it is used
    """A server that answers every request with the same bytes and closes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
