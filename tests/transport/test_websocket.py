"""WebSockets over real loopback connections: the ordinary talk, the limits, and every way to fail."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets import exceptions
from websockets.asyncio.client import connect

from provider_agent import __version__
from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.transport.channel import ChannelClosed
from provider_agent.transport.liveness import PATIENCE, Patience
from provider_agent.transport.websocket import AcceptedSocket, DialError, DialledSocket, DialOptions, dial
from tests.fakes.servers import tcp_server, websocket_server

QUICK = DialOptions(dial_timeout_s=5.0)
PATH = "/v1/agents/connect"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PING = b"\x89\x00"


class Server:
    """Echoes, and remembers how each conversation went."""

    def __init__(self) -> None:
        self.sockets: list[AcceptedSocket] = []
        self.ended: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def echo(self, accepted: AcceptedSocket) -> None:
        self.sockets.append(accepted)
        try:
            while True:
                await accepted.send(await accepted.receive())
        except ChannelClosed as closed:
            self.ended.put_nowait(closed)

    async def end(self) -> ChannelClosed:
        async with asyncio.timeout(5):
            return await self.ended.get()


@asynccontextmanager
async def conversation(patience: Patience = PATIENCE) -> AsyncIterator[tuple[DialledSocket, Server]]:
    """A dialled socket, and the server that echoes what it sends."""
    server = Server()
    async with websocket_server(server.echo, patience=patience) as url:
        dialled = await dial(url, DialOptions(patience=patience))
        try:
            yield dialled, server
        finally:
            await dialled.close(1000, "")


async def received(some: DialledSocket | AcceptedSocket) -> bytes:
    async with asyncio.timeout(10):
        return await some.receive()


async def exchange(some: DialledSocket | AcceptedSocket, message: bytes) -> bytes:
    await some.send(message)
    return await received(some)


# --- the ordinary case -------------------------------------------------------------------


async def test_messages_go_both_ways_as_they_are() -> None:
    """Text in, the same bytes out, in order."""
    async with conversation() as (dialled, _):
        messages = [b'{"a":1}', '{"ü":"\N{ROCKET}"}'.encode(), b"{}" * 50_000]
        for message in messages:
            await dialled.send(message)

        assert [await received(dialled) for _ in messages] == messages


async def test_a_close_carries_code_and_reason_to_both_sides() -> None:
    """Who closed is told apart."""
    async with conversation() as (dialled, server):
        await dialled.close(4003, "because")
        theirs = await server.end()
        with pytest.raises(ChannelClosed) as ours:
            await dialled.receive()

    assert (theirs.code, theirs.reason, theirs.by_us) == (4003, "because", False)
    assert (ours.value.code, ours.value.reason, ours.value.by_us) == (4003, "because", True)


async def test_the_servers_close_arrives_with_its_code() -> None:
    """The agent's next step depends on it (protocol.md 10)."""

    async def replace(accepted: AcceptedSocket) -> None:
        await accepted.close(4002, "replaced by a newer connection")
        with pytest.raises(ChannelClosed) as again:
            await accepted.receive()
        assert again.value.by_us

    async with websocket_server(replace) as url:
        dialled = await dial(url, QUICK)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        with pytest.raises(ChannelClosed):
            await dialled.send(b"{}")
        await dialled.close(1000, "")

    assert (closed.value.code, closed.value.by_us) == (4002, False)


async def test_the_servers_goodbye_is_the_end_even_if_it_keeps_the_connection() -> None:
    """What came before it is still received; jobs must not run on until the server hangs up."""
    async with half_open_server(b"\x81\x02{}" + b"\x88\x05\x0f\xa1bye") as url:
        dialled = await dial(url, QUICK)
        assert await received(dialled) == b"{}"
        for _ in range(2):
            with pytest.raises(ChannelClosed) as closed:
                async with asyncio.timeout(0.5):
                    await dialled.receive()
        async with asyncio.timeout(3):
            await dialled.close(1000, "")

    assert (closed.value.code, closed.value.reason, closed.value.by_us) == (4001, "bye", False)


async def test_a_goodbye_ends_a_receive_that_waits() -> None:
    """The server keeps the connection after its close frame."""
    leave = asyncio.Event()

    async def say_goodbye(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leave.wait()
        writer.write(b"\x88\x02\x0f\xa1")

    async with half_open_server(then=say_goodbye) as url:
        dialled = await dial(url, QUICK)
        waiting = asyncio.create_task(dialled.receive())
        asyncio.get_running_loop().call_soon(leave.set)
        with pytest.raises(ChannelClosed) as closed:
            async with asyncio.timeout(0.5):
                await waiting
        async with asyncio.timeout(3):
            await dialled.close(1000, "")

    assert (closed.value.code, closed.value.by_us) == (4001, False)


@pytest.mark.skipif(not hasattr(exceptions, "TooManyFragments"), reason="older libraries count no pieces")
async def test_a_message_in_too_many_pieces_is_refused_as_too_large() -> None:
    """One of a byte a frame would cost a hundred times its size."""
    async with half_open_server(b"\x01\x01x" + b"\x00\x01x" * 10_000) as url:
        dialled = await dial(url, QUICK)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        await dialled.close(1000, "")

    assert (closed.value.code, closed.value.by_us) == (1009, True)


async def test_a_reason_that_is_too_long_is_cut() -> None:
    """A close frame has room for 123 bytes, and no half character."""
    async with conversation() as (dialled, server):
        await dialled.close(4003, "é" * 200)

        assert (await server.end()).reason == "é" * 61


# --- limits of protocol.md 1 -------------------------------------------------------------


async def test_small_messages_are_not_held_back_on_either_side() -> None:
    """TCP_NODELAY is on, and little waits in the kernel where no control frame can overtake it."""
    async with conversation() as (dialled, server):
        await dialled.send(b"{}")
        await received(dialled)
        for transport in (dialled._connection.transport, server.sockets[0]._transport):
            tcp = transport.get_extra_info("socket")
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_nothing_is_compressed_even_if_the_peer_could() -> None:
    """Compression costs CPU and memory, and delays tokens."""
    async with websocket_server(Server().echo) as url:
        dialled = await dial(url, QUICK)
        assert dialled._connection.request is not None
        assert "Sec-WebSocket-Extensions" not in dialled._connection.request.headers
        await dialled.close(1000, "")
        async with connect(url, compression="deflate", proxy=None) as eager:
            assert eager.protocol.extensions == []


async def test_the_agent_says_who_it_is_and_what_it_speaks() -> None:
    """User agent and subprotocol are in the request."""
    async with conversation() as (dialled, _):
        request = dialled._connection.request
        assert request is not None

        assert request.headers["User-Agent"] == f"provider-agent/{__version__}"
        assert request.headers["Sec-WebSocket-Protocol"] == "provider-agent.v3"
        assert dialled._connection.subprotocol == "provider-agent.v3"


async def test_a_message_of_the_limit_passes_and_a_larger_one_closes_with_1009() -> None:
    """64 MiB, both ways; the side that refuses says so."""
    async with conversation() as (dialled, server):
        await dialled.send(b"x" * MAX_MESSAGE_BYTES)
        assert len(await received(dialled)) == MAX_MESSAGE_BYTES
        with pytest.raises(ChannelClosed) as ours:
            await exchange(dialled, b"x" * (MAX_MESSAGE_BYTES + 1))
        theirs = await server.end()

    assert (theirs.code, theirs.by_us) == (1009, True)
    assert ours.value.code in (1009, None)  # None: the reset overtook the close frame


async def test_an_oversized_message_to_the_agent_closes_with_1009() -> None:
    """The other way round."""

    async def shout(accepted: AcceptedSocket) -> None:
        with pytest.raises(ChannelClosed):
            await exchange(accepted, b"x" * (MAX_MESSAGE_BYTES + 1))

    async with websocket_server(shout) as url:
        dialled = await dial(url, QUICK)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        await dialled.close(1000, "")

    assert (closed.value.code, closed.value.by_us) == (1009, True)


async def test_a_quiet_session_lives_and_its_receive_waits_undisturbed() -> None:
    """Both sides ping and answer, for longer than either's patience, while a receive waits."""
    async with conversation(Patience(0.02, 0.3)) as (dialled, _):
        liveness = dialled._connection.liveness
        assert liveness is not None
        opened_s = liveness.heard_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await dialled.receive()
        await dialled.send(b"{}")

        assert liveness.heard_s > opened_s + 0.3
        assert await received(dialled) == b"{}"


async def test_an_agent_whose_message_takes_long_lives_by_each_byte_of_it() -> None:
    """It answers every ping by the next piece of one message: any byte counts, not only whole messages."""
    server = Server()
    message = masked(b"x" * 100)
    pieces = [message[:1], message[1:3], message[3:50], message[50:]]
    async with (
        websocket_server(server.echo, patience=Patience(0.02, 0.3)) as url,
        raw_client(url) as (reader, writer),
        asyncio.timeout(5),
    ):
        for piece in pieces:
            assert await reader.readexactly(2) == PING
            writer.write(piece)
        echo = await reader.readuntil(b"x" * 100)

    assert echo.removeprefix(PING) == b"\x81\x64" + b"x" * 100


async def test_a_half_open_server_is_noticed() -> None:
    """It accepted the WebSocket and is gone without a word (field note 38)."""
    async with half_open_server() as url:
        dialled = await dial(url, DialOptions(patience=Patience(0.05, 0.05)))
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        async with asyncio.timeout(3):
            await dialled.close(1000, "")

    assert str(closed.value) == "the connection was given up: the peer was silent for 0.1 s"


async def test_a_half_open_agent_is_noticed() -> None:
    """The coordinator does not wait for a dead agent either (field note 38)."""
    server = Server()
    async with (
        websocket_server(server.echo, patience=Patience(0.05, 0.05)) as url,
        mute_client(url),
    ):
        closed = await server.end()

    assert str(closed) == "the connection was given up: the peer was silent for 0.1 s"


async def test_a_goodbye_to_a_peer_that_takes_nothing_is_bounded() -> None:
    """Closing takes a second at most, also while the send buffer is full."""
    async with half_open_server() as url:
        dialled = await dial(url, QUICK)
        stuck = asyncio.create_task(fill(dialled))
        await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await dialled.close(1000, "")
            with pytest.raises(ChannelClosed):
                await stuck


async def test_an_accepted_socket_says_goodbye_in_bounded_time_too() -> None:
    """The coordinator's side of the same."""
    done = asyncio.Event()

    async def leave(accepted: AcceptedSocket) -> None:
        stuck = asyncio.create_task(fill(accepted))
        await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await accepted.close(1001, "drain:deploy")
            with pytest.raises(ChannelClosed):
                await stuck
        done.set()

    async with websocket_server(leave) as url, mute_client(url):
        async with asyncio.timeout(5):
            await done.wait()


async def test_an_agent_that_is_reset_while_the_coordinator_writes_ends_as_lost() -> None:
    """Whatever the library raises there, it leaves as the end of the channel."""
    ends: asyncio.Queue[BaseException] = asyncio.Queue()
    stuck = asyncio.Event()

    async def write(accepted: AcceptedSocket) -> None:
        asyncio.get_running_loop().call_soon(stuck.set)
        try:
            await fill(accepted)
        except (ChannelClosed, ConnectionError) as error:
            ends.put_nowait(error)

    async with websocket_server(write) as url, asyncio.timeout(5):
        async with mute_client(url):
            await stuck.wait()
        end = await ends.get()

    assert isinstance(end, ChannelClosed)
    assert (end.code, end.by_us) == (None, False)


async def test_pings_of_a_server_that_reads_nothing_cost_no_memory() -> None:
    """Their answers are dropped while the line is full: it may have them when it reads."""
    pings = b"\x89\x7d" + b"p" * 125
    done = asyncio.Event()

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(30):
            writer.write(pings * 1000)
            await writer.drain()
        writer.write(b"\x81\x02{}")
        done.set()

    async with half_open_server(then=flood) as url:
        dialled = await dial(url, QUICK)
        stuck = asyncio.create_task(fill(dialled))
        assert await received(dialled) == b"{}"
        waiting_bytes = dialled._connection.transport.get_write_buffer_size()
        await dialled.close(1000, "")
        with pytest.raises(ChannelClosed):
            await stuck

    assert done.is_set()
    assert waiting_bytes < 1_500_000  # one message of a megabyte, and what came before the line was full


async def test_a_ping_is_answered_also_while_little_waits() -> None:
    """The ordinary case."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x89\x02hi")
        answered.set_result(await reader.readexactly(8))

    async with half_open_server(then=ping) as url, asyncio.timeout(5):
        dialled = await dial(url, QUICK)
        answer = await answered
        await dialled.close(1000, "")

    mask = answer[2:6]
    assert answer[:2] == b"\x8a\x82"
    assert bytes(a ^ b for a, b in zip(answer[6:], mask, strict=False)) == b"hi"


async def test_a_server_that_talks_but_takes_nothing_is_given_up() -> None:
    """What waits for it would grow without end."""
    async with half_open_server() as url:
        dialled = await dial(url, DialOptions(patience=Patience(0.02, 0.02, stalled_after_s=0.01)))
        stuck = asyncio.create_task(fill(dialled))
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        with pytest.raises(ChannelClosed) as writers:
            await stuck
        await dialled.close(1000, "")

    for end in (closed.value, writers.value):
        assert str(end) == "we closed the connection with 4003: the peer took no bytes for 0.01 s"


async def test_an_agent_that_talks_but_takes_nothing_is_given_up() -> None:
    """The coordinator's side of the same."""
    ends: list[str] = []

    async def serve(accepted: AcceptedSocket) -> None:
        stuck = asyncio.create_task(fill(accepted))
        for each in (accepted.receive(), stuck):
            with pytest.raises(ChannelClosed) as closed:
                await each
            ends.append(str(closed.value))
        done.set()

    done = asyncio.Event()
    async with (
        websocket_server(serve, patience=Patience(0.02, 0.02, stalled_after_s=0.01)) as url,
        mute_client(url),
        asyncio.timeout(5),
    ):
        await done.wait()

    assert ends == ["we closed the connection with 4003: the peer took no bytes for 0.01 s"] * 2


async def fill(some: DialledSocket | AcceptedSocket) -> None:
    while True:
        await some.send(b"x" * 1_000_000)


@pytest.mark.parametrize(
    "claim",
    [
        test_a_goodbye_to_a_peer_that_takes_nothing_is_bounded,
        test_an_accepted_socket_says_goodbye_in_bounded_time_too,
        test_the_servers_goodbye_is_the_end_even_if_it_keeps_the_connection,
        test_a_goodbye_ends_a_receive_that_waits,
        test_pings_of_a_server_that_reads_nothing_cost_no_memory,
        test_a_server_that_talks_but_takes_nothing_is_given_up,
        test_an_agent_that_talks_but_takes_nothing_is_given_up,
        test_a_half_open_server_is_noticed,
        test_a_half_open_agent_is_noticed,
        test_an_agent_whose_message_takes_long_lives_by_each_byte_of_it,
        test_an_agent_that_is_reset_while_the_coordinator_writes_ends_as_lost,
    ],
)
def test_the_other_event_loop_keeps_the_same_promises(claim: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """uvloop, which the programs run on, ends interrupted writes and timers in its own way."""
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
        async with conversation() as (dialled, _):
            await dialled.send(b"{}")
            assert await received(dialled) == b"{}"

    assert proxied.value.kind == "proxy"


async def test_a_plain_http_request_is_refused_by_the_door() -> None:
    """What is no WebSocket request gets a 400, not a socket."""
    async with websocket_server(Server().echo) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        async with asyncio.timeout(5):
            status = await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert b" 400 " in status


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
    async with websocket_server(Server().echo, tls=server_tls(ca)) as url:
        dialled = await dial(url, DialOptions(ca_file=trusting(ca, tmp_path)))
        await dialled.send(b"{}")

        assert await received(dialled) == b"{}"
        await dialled.close(1000, "")


async def test_an_unknown_authority_is_not_trusted(ca: trustme.CA, tmp_path: Path) -> None:
    """A certificate of somebody else's authority ends the dial."""
    async with websocket_server(Server().echo, tls=server_tls(ca)) as url:
        with pytest.raises(DialError, match="is not trusted: unable to get local issuer") as caught:
            await dial(url, DialOptions(ca_file=trusting(trustme.CA(), tmp_path)))

    assert caught.value.kind == "tls"


async def test_a_certificate_for_another_host_is_not_trusted(ca: trustme.CA, tmp_path: Path) -> None:
    """Right authority, wrong name."""
    async with websocket_server(Server().echo, tls=server_tls(ca)) as url:
        with pytest.raises(DialError, match="certificate is not valid for") as caught:
            await dial(url.replace("localhost", "127.0.0.1"), DialOptions(ca_file=trusting(ca, tmp_path)))

    assert caught.value.kind == "tls"


async def test_a_refused_client_certificate_is_told_as_such(ca: trustme.CA, tmp_path: Path) -> None:
    """In TLS 1.3 it looks like a server that hangs up; the sentence names the likely reason."""
    async with websocket_server(Server().echo, tls=server_tls(ca, wants_client=True)) as url:
        with pytest.raises(DialError, match="another client certificate") as caught:
            await dial(url, DialOptions(ca_file=trusting(ca, tmp_path)))

    assert caught.value.kind == "client_certificate"


async def test_a_client_certificate_opens_the_door(ca: trustme.CA, tmp_path: Path) -> None:
    """Mutual TLS, with the certificate of `client_cert_file`."""
    own = tmp_path / "agent.pem"
    ca.issue_cert("agent").private_key_and_cert_chain_pem.write_to_path(own)
    async with websocket_server(Server().echo, tls=server_tls(ca, wants_client=True)) as url:
        dialled = await dial(url, DialOptions(ca_file=trusting(ca, tmp_path), client_cert_file=own))
        await dialled.send(b"{}")

        assert await received(dialled) == b"{}"
        await dialled.close(1000, "")


# --- bad peers ---------------------------------------------------------------------------


async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


class saying:  # noqa: N801 - reads as a verb where it is used
    """A server that answers every request with the same bytes and closes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()


@asynccontextmanager
async def half_open_server(says: bytes = b"", *, then: Talk = silence) -> AsyncIterator[str]:
    """Completes the WebSocket handshake, perhaps says something, then neither reads nor speaks."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
        )
        writer.write(says)
        await writer.drain()
        await then(reader, writer)
        await silence(reader, writer)

    async with tcp_server(serve) as port:
        yield f"ws://127.0.0.1:{port}{PATH}"


def accept_key(key: str) -> str:
    from websockets.utils import accept_key as computed

    return computed(key)


@asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Asks for a WebSocket, and leaves every byte after that to the test."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def mute_client(url: str) -> AsyncIterator[None]:
    """Asks for a WebSocket, then neither reads nor speaks."""
    async with raw_client(url) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield


def masked(payload: bytes) -> bytes:
    """One short text message of a client; its mask changes nothing."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
