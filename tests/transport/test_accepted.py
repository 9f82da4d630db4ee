"""Accepting over real loopback connections: the door, who takes over, and what aiohttp learns of the end."""

import asyncio
import base64
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import ClientSession, web
from websockets.asyncio.client import connect

from provider_agent.transport.accepted import AcceptedSocket, accept
from provider_agent.transport.socket import ChannelClosed
from tests.fakes.raw_websockets import PATH, masked, raw_client
from tests.fakes.servers import websocket_server


class Door:
    """Echoes, and remembers how each conversation went."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def echo(self, accepted: AcceptedSocket) -> None:
        try:
            while True:
                accepted.send(await accepted.receive())
                accepted.flush()
        except ChannelClosed as closed:
            self.ended.put_nowait(closed)

    async def end(self) -> ChannelClosed:
        async with asyncio.timeout(5):
            return await self.ended.get()


# --- the ordinary case -------------------------------------------------------------------


async def test_a_request_becomes_a_websocket() -> None:
    """The client of another library takes it for one."""
    door = Door()
    async with (
        websocket_server(door.echo) as url,
        ClientSession() as session,
        session.ws_connect(url, protocols=("provider-agent.v3",)) as client,
    ):
        await client.send_str("{}")
        assert await client.receive_str() == "{}"
        assert client.protocol == "provider-agent.v3"
        await client.close(code=4001)

        assert (await door.end()).code == 4001


async def test_nothing_is_compressed_even_if_the_peer_could() -> None:
    """Compression costs CPU and memory, and delays tokens."""
    async with (
        websocket_server(Door().echo) as url,
        connect(url, compression="deflate", proxy=None) as eager,
    ):
        assert eager.protocol.extensions == []
        assert eager.subprotocol is None


async def test_what_comes_right_behind_the_request_is_received() -> None:
    """Before anything is answered: one message and a half, the rest later."""
    late = masked(b"late")
    async with (
        websocket_server(Door().echo) as url,
        raw_client(url, masked(b"early") + late[:3]) as (reader, writer),
        asyncio.timeout(5),
    ):
        assert await reader.readexactly(7) == b"\x81\x05early"
        writer.write(late[3:])
        assert await reader.readexactly(6) == b"\x81\x04late"


async def test_much_that_comes_right_behind_the_request_is_received() -> None:
    """More than aiohttp reads ahead: it stops reading then, and must be made to go on."""
    messages = 5000
    async with (
        websocket_server(Door().echo) as url,
        raw_client(url, masked(b"x" * 125) * messages) as (reader, _),
        asyncio.timeout(10),
    ):
        assert await reader.readexactly(127 * messages) == (b"\x81\x7d" + b"x" * 125) * messages


async def test_a_handler_that_returns_says_goodbye() -> None:
    """Nothing is left to write then but that."""

    async def leave(_: AcceptedSocket) -> None:
        return

    async with (
        websocket_server(leave) as url,
        connect(url, proxy=None) as client,
        asyncio.timeout(5),
    ):
        await client.wait_closed()
        assert client.close_code == 1000


# --- the end -----------------------------------------------------------------------------


async def test_the_server_learns_of_the_end_and_can_be_shut_down_at_once() -> None:
    """It counts its connections, and waits for those that it thinks are there."""
    ends: asyncio.Queue[web.RequestHandler] = asyncio.Queue()

    async def handle(accepted: AcceptedSocket) -> None:
        with pytest.raises(ChannelClosed):
            await accepted.receive()
        await accepted.close(1000, "")
        ends.put_nowait(accepted._server)

    async with websocket_server(handle) as url, asyncio.timeout(5):
        async with raw_client(url):
            pass
        server = await ends.get()
        assert not server.connected
        stopping_s = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - stopping_s < 0.5


async def test_the_servers_shutdown_ends_a_conversation_that_nobody_ended() -> None:
    """Its handler is cancelled; the client is not left with a dead connection."""
    waiting = asyncio.Event()

    async def wait(accepted: AcceptedSocket) -> None:
        waiting.set()
        await accepted.receive()

    async with asyncio.timeout(10):
        async with websocket_server(wait) as url:
            client = await connect(url, proxy=None)
            await waiting.wait()
        await client.wait_closed()

    assert client.close_code is not None


async def test_a_connection_serves_one_websocket_and_no_request_after_it() -> None:
    """The handler's end closes it."""
    door = Door()
    async with (
        websocket_server(door.echo) as url,
        raw_client(url) as (reader, writer),
        asyncio.timeout(5),
    ):
        writer.write(masked(b"\x03\xe8", 0x88) + f"GET {PATH} HTTP/1.1\r\nHost: h\r\n\r\n".encode())

        assert await reader.read() == b"\x88\x02\x03\xe8"


# --- ways not to get in ------------------------------------------------------------------


async def answer_to(url: str, *headers: str) -> bytes:
    port = int(url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([f"GET {PATH} HTTP/1.1", "Host: h", *headers, "", ""]).encode())
    async with asyncio.timeout(5):
        status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return status


KEY = f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}"
ASKING = ("Upgrade: websocket", "Connection: Upgrade")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (*ASKING, KEY),
        (*ASKING, KEY, "Sec-WebSocket-Version: 12"),
        (*ASKING, "Sec-WebSocket-Version: 13"),
        (*ASKING, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"),
        ("Connection: Upgrade", "Upgrade: h2c", KEY, "Sec-WebSocket-Version: 13"),
    ],
)
async def test_what_asks_for_no_websocket_is_refused_by_the_door(headers: tuple[str, ...]) -> None:
    """It gets a 400, not a socket."""
    async with websocket_server(Door().echo) as url:
        assert b" 400 " in await answer_to(url, *headers)


async def test_a_client_that_is_gone_before_the_answer_gets_no_socket() -> None:
    """A door that checks something first may find nobody there."""
    ends: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def handle(request: web.Request) -> web.StreamResponse:
        request.protocol.force_close()
        with pytest.raises(ChannelClosed) as gone:
            await accept(request)
        ends.put_nowait(gone.value)
        return web.Response()

    app = web.Application()
    app.router.add_get(PATH, handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with asyncio.timeout(5):
        port = runner.addresses[0][1]
        asking = answer_to(f"http://127.0.0.1:{port}/", *ASKING, KEY, "Sec-WebSocket-Version: 13")
        _, end = await asyncio.gather(asking, ends.get())
    await runner.cleanup()

    assert str(end) == "the connection was lost: during the handshake"


@pytest.mark.parametrize(
    "claim",
    [
        test_a_request_becomes_a_websocket,
        test_what_comes_right_behind_the_request_is_received,
        test_much_that_comes_right_behind_the_request_is_received,
        test_a_handler_that_returns_says_goodbye,
        test_the_server_learns_of_the_end_and_can_be_shut_down_at_once,
        test_the_servers_shutdown_ends_a_conversation_that_nobody_ended,
    ],
)
def test_the_other_event_loop_keeps_the_same_promises(claim: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """uvloop, which the programs run on."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(claim())
