"""One WebSocket connection: driven by hand, against the library's own peer, and over loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.transport.dialled import DialOptions, dial
from provider_agent.transport.liveness import PATIENCE, Patience
from provider_agent.transport.socket import ChannelClosed
from provider_agent.transport.tcp import HIGH_WATER_BYTES
from provider_agent.transport.websocket import (
    CLOSE_TIMEOUT_S,
    INBOX_BYTES,
    INBOX_MESSAGES,
    WebSocketConnection,
)
from tests.fakes.raw_websockets import half_open_server, masked, mute_client, raw_client
from tests.fakes.servers import websocket_server
from tests.fakes.transports import MemoryTransport

QUICK = DialOptions(dial_timeout_s=5.0)
PING = b"\x89\x00"


class Hand:
    """One connection in memory, and the library's peer at its other end.

    Attributes:
        transport: what the connection writes to.
        connection: ours.
        peer: the library's, of the other side.
    """

    def __init__(self, side: Side, patience: Patience = PATIENCE, received: bytes = b"") -> None:
        self.transport = MemoryTransport()
        self.connection = WebSocketConnection(self.transport, side, patience, received)
        self.peer = Protocol(Side.CLIENT if side is Side.SERVER else Side.SERVER, max_size=None)

    def hear(self) -> None:
        """What the peer has to say arrives."""
        data = b"".join(self.peer.data_to_send())
        if data:
            self.connection.data_received(data)

    def frames(self) -> list[Frame]:
        """What the peer makes of all that was written since the last time."""
        self.peer.receive_data(bytes(self.transport.written))
        self.transport.written.clear()
        return [event for event in self.peer.events_received() if isinstance(event, Frame)]

    async def received(self, count: int) -> list[bytes]:
        async with asyncio.timeout(5):
            return [await self.connection.receive() for _ in range(count)]

    async def end(self) -> ChannelClosed:
        with pytest.raises(ChannelClosed) as closed:
            await self.received(1)
        return closed.value

    def leave(self) -> None:
        self.connection.abort(ChannelClosed(None, "the test is over"))


@asynccontextmanager
async def by_hand(
    side: Side = Side.CLIENT, patience: Patience = PATIENCE, received: bytes = b""
) -> AsyncIterator[Hand]:
    hand = Hand(side, patience, received)
    try:
        yield hand
    finally:
        hand.leave()
        await hand.connection.close(1000, "")


@pytest.fixture(params=[Side.CLIENT, Side.SERVER], ids=["client", "server"])
async def hand(request: pytest.FixtureRequest) -> AsyncIterator[Hand]:
    """Once as the agent's end, once as the coordinator's."""
    async with by_hand(request.param) as hand:
        yield hand


# --- the ordinary case -------------------------------------------------------------------


async def test_what_is_collected_leaves_in_one_write_and_is_understood(hand: Hand) -> None:
    """Text as text, and what begins with 0x01 as binary."""
    messages = [b"{}", b"\x01chunk", b"x" * 70_000]
    for message in messages:
        hand.connection.send(message)
    assert hand.transport.writes == 0

    hand.connection.flush()

    assert hand.transport.writes == 1
    assert [(frame.opcode, bytes(frame.data)) for frame in hand.frames()] == [
        (Opcode.TEXT, b"{}"),
        (Opcode.BINARY, b"\x01chunk"),
        (Opcode.TEXT, b"x" * 70_000),
    ]


async def test_nothing_collected_is_no_write(hand: Hand) -> None:
    """A flush may come for nothing."""
    hand.connection.flush()

    assert hand.transport.writes == 0


async def test_what_the_peer_sends_is_received(hand: Hand) -> None:
    """Several messages of one read, and one that was waited for."""
    waiting = asyncio.create_task(hand.connection.receive())
    await asyncio.sleep(0)
    hand.peer.send_text(b"{}")
    hand.peer.send_binary(b"\x01chunk")
    hand.peer.send_text(b"")
    hand.hear()

    assert await waiting == b"{}"
    assert await hand.received(2) == [b"\x01chunk", b""]


async def test_what_came_right_behind_the_handshake_is_received_first() -> None:
    """It lay in somebody else's buffer."""
    async with by_hand(received=b"\x81\x01a\x81") as hand:
        hand.connection.data_received(b"\x01b")

        assert await hand.received(2) == [b"a", b"b"]


async def test_a_cancelled_receive_loses_nothing(hand: Hand) -> None:
    """Not even when the message came in the same turn of the loop."""
    waiting = asyncio.create_task(hand.connection.receive())
    await asyncio.sleep(0)
    hand.peer.send_text(b"a")
    hand.hear()
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert await hand.received(1) == [b"a"]


@st.composite
def talks(draw: st.DrawFn) -> list[tuple[Opcode, bytes, bool]]:
    """Frames of a peer that keeps the rules: opcode, payload, whether it is the last of its message."""
    talk: list[tuple[Opcode, bytes, bool]] = []
    for _ in range(draw(st.integers(0, 5))):
        pieces = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
        for number, piece in enumerate(pieces):
            if draw(st.booleans()):
                talk.append((draw(st.sampled_from([Opcode.PING, Opcode.PONG])), piece[:125], True))
            opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY])) if number == 0 else Opcode.CONT
            talk.append((opcode, piece, number == len(pieces) - 1))
    return talk


def say(peer: Protocol, opcode: Opcode, payload: bytes, *, is_last: bool) -> None:
    match opcode:
        case Opcode.PING:
            peer.send_ping(payload)
        case Opcode.PONG:
            peer.send_pong(payload)
        case Opcode.TEXT:
            peer.send_text(payload, is_last)
        case Opcode.BINARY:
            peer.send_binary(payload, is_last)
        case _:
            peer.send_continuation(payload, is_last)


def messages_of(talk: list[tuple[Opcode, bytes, bool]]) -> list[bytes]:
    messages, message = [], b""
    for opcode, payload, is_last in talk:
        if opcode not in (Opcode.PING, Opcode.PONG):
            message += payload
            if is_last:
                messages.append(message)
                message = b""
    return messages


@settings(deadline=None)
@given(talks(), st.sampled_from(Side), st.lists(st.integers(0, 2000), max_size=8))
def test_the_librarys_peer_is_understood_and_answered(
    talk: list[tuple[Opcode, bytes, bool]], side: Side, cuts: list[int]
) -> None:
    """Wherever the network splits what it says: its messages in order, and a pong for each ping."""

    async def run() -> None:
        async with by_hand(side) as hand:
            for opcode, payload, is_last in talk:
                say(hand.peer, opcode, payload, is_last=is_last)
            stream = b"".join(hand.peer.data_to_send())
            for start, stop in pairwise([0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]):
                hand.connection.data_received(stream[start:stop])

            expected = messages_of(talk)
            assert await hand.received(len(expected)) == expected
            assert [bytes(frame.data) for frame in hand.frames()] == [
                payload for opcode, payload, _ in talk if opcode is Opcode.PING
            ]

    asyncio.run(run())


@settings(deadline=None)
@given(st.lists(st.lists(st.binary(max_size=300), max_size=4), max_size=4), st.sampled_from(Side))
def test_the_librarys_peer_understands(flushes: list[list[bytes]], side: Side) -> None:
    """Whatever is sent, and however it is collected."""

    async def run() -> None:
        async with by_hand(side) as hand:
            for messages in flushes:
                for message in messages:
                    hand.connection.send(message)
                hand.connection.flush()

            assert [bytes(frame.data) for frame in hand.frames()] == [
                each for some in flushes for each in some
            ]

    asyncio.run(run())


# --- how much waits ----------------------------------------------------------------------


async def test_a_transport_above_its_high_water_is_full_until_there_is_room() -> None:
    """The channel is told when it may go on."""
    async with by_hand() as hand:
        rooms: list[bool] = []
        hand.connection.on_room = lambda: rooms.append(hand.connection.is_full)
        hand.transport.hold()
        hand.connection.send(b"x" * (HIGH_WATER_BYTES + 1))
        hand.connection.flush()
        rooms.append(hand.connection.is_full)
        hand.transport.let_go()

        assert rooms == [True, False]


async def test_a_transport_that_was_full_before_is_known_to_be() -> None:
    """It tells only of changes."""
    transport = MemoryTransport()
    transport.hold()
    transport.write(b"x" * (HIGH_WATER_BYTES + 1))
    connection = WebSocketConnection(transport, Side.SERVER)
    connection.abort(ChannelClosed(None, "the test is over"))

    assert connection.is_full


async def test_nothing_is_written_to_a_transport_that_closes(hand: Hand) -> None:
    """Somebody else may have closed it, such as the server's shutdown."""
    hand.transport.is_closed = True
    hand.connection.send(b"{}")
    hand.connection.flush()
    hand.connection.connection_lost(None)

    assert hand.transport.writes == 0


@pytest.mark.parametrize(
    ("message", "bearable"), [(b"x" * 99_996, INBOX_BYTES // 100_000), (b"x", INBOX_MESSAGES)]
)
async def test_reading_rests_while_too_much_is_unread(message: bytes, bearable: int) -> None:
    """By size or by number; it goes on when all has been received."""
    async with by_hand() as hand:
        paused = []
        for _ in range(bearable + 1):
            paused.append(hand.transport.is_paused)
            hand.peer.send_text(message)
            hand.hear()
        assert paused == [False] * (bearable + 1)
        assert resting(hand)

        await hand.received(bearable)
        assert resting(hand)
        await hand.received(1)
        assert not resting(hand)


def resting(hand: Hand) -> bool:
    return hand.transport.is_paused


async def test_a_large_message_that_is_on_its_way_is_no_reason_to_rest() -> None:
    """It would never be whole."""
    async with by_hand() as hand:
        hand.peer.send_text(b"x" * (3 * INBOX_BYTES))
        stream = b"".join(hand.peer.data_to_send())
        for at in range(0, len(stream), 65_536):
            assert not hand.transport.is_paused
            hand.connection.data_received(stream[at : at + 65_536])

        assert await hand.received(1) == [b"x" * (3 * INBOX_BYTES)]


async def test_pings_of_a_peer_that_takes_nothing_cost_no_memory(hand: Hand) -> None:
    """Their answers are dropped while the transport is full: it may have them when it reads."""
    hand.transport.hold()
    for _ in range(10_000):
        hand.peer.send_ping(b"p" * 125)
    hand.hear()
    assert hand.transport.get_write_buffer_size() <= HIGH_WATER_BYTES + 200

    hand.transport.let_go()
    hand.transport.written.clear()
    hand.peer.send_ping(b"again")
    hand.hear()

    assert [bytes(frame.data) for frame in hand.frames()] == [b"again"]


# --- the end -----------------------------------------------------------------------------


async def test_what_came_before_the_peers_goodbye_is_received_and_then_the_end(hand: Hand) -> None:
    """Also when asked again; and the goodbye is answered."""
    hand.peer.send_text(b"last")
    hand.peer.send_close(4002, "replaced")
    hand.hear()

    assert await hand.received(1) == [b"last"]
    for _ in range(2):
        closed = await hand.end()
        assert (closed.code, closed.reason, closed.by_us) == (4002, "replaced", False)
    assert [frame.opcode for frame in hand.frames()] == [Opcode.CLOSE]


async def test_the_server_hangs_up_its_half_after_the_goodbyes() -> None:
    """The client waits for that (RFC 6455, 7.1.1)."""
    async with by_hand(Side.SERVER) as hand:
        hand.peer.send_close(1000)
        hand.hear()
        assert hand.transport.is_half_closed

    async with by_hand(Side.CLIENT) as hand:
        hand.peer.send_close(1000)
        hand.hear()
        assert not hand.transport.is_half_closed


async def test_our_goodbye_comes_behind_what_was_collected(hand: Hand) -> None:
    """And whoever receives learns at once; nothing is sent any more."""
    waiting = asyncio.create_task(hand.end())
    await asyncio.sleep(0)
    hand.connection.send(b"last")
    closing = asyncio.create_task(hand.connection.close(4003, "because"))
    closed = await waiting
    hand.connection.send(b"too late")
    hand.connection.flush()
    frames = hand.frames()

    assert (closed.code, closed.reason, closed.by_us) == (4003, "because", True)
    assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [
        (Opcode.TEXT, b"last"),
        (Opcode.CLOSE, b"\x0f\xa3because"),
    ]

    hand.connection.connection_lost(None)
    await closing


async def test_what_comes_after_our_goodbye_is_dropped_but_the_peers_own_is_not(hand: Hand) -> None:
    """Reading goes on even if it rested: a goodbye behind much else must be seen."""
    for _ in range(INBOX_MESSAGES + 1):
        hand.peer.send_text(b"early")
    hand.hear()
    assert resting(hand)
    closing = asyncio.create_task(hand.connection.close(1000, ""))
    await asyncio.sleep(0)
    assert not resting(hand)

    hand.peer.send_text(b"late")
    hand.peer.receive_data(bytes(hand.transport.written))
    hand.hear()
    hand.connection.eof_received()
    hand.connection.connection_lost(None)
    await closing

    assert await hand.received(INBOX_MESSAGES + 1) == [b"early"] * (INBOX_MESSAGES + 1)
    assert (await hand.end()).by_us


async def test_a_peer_that_never_hangs_up_is_left_after_a_second(hand: Hand) -> None:
    """Whoever ended the conversation."""
    started_s = asyncio.get_running_loop().time()
    async with asyncio.timeout(3 * CLOSE_TIMEOUT_S):
        await asyncio.gather(hand.connection.close(1000, ""), hand.connection.close(1000, "twice"))

    assert hand.transport.is_closed
    assert asyncio.get_running_loop().time() - started_s > 0.9 * CLOSE_TIMEOUT_S


async def test_an_abort_says_nothing_and_is_told_as_what_it_is(hand: Hand) -> None:
    """The first end counts; that the transport is lost then is no news."""
    hand.connection.send(b"never sent")
    hand.connection.abort(ChannelClosed(4003, "enough", by_us=True))
    hand.connection.abort(ChannelClosed(None, "again"))
    await hand.connection.close(1000, "")

    assert str(await hand.end()) == "we closed the connection with 4003: enough"
    assert hand.transport.written == b""
    assert hand.transport.is_closed


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, "the connection was lost"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "the connection was lost: connection reset by peer",
        ),
        (asyncio.CancelledError(), "the connection was lost"),  # uvloop, for a write that was interrupted
    ],
)
async def test_a_lost_connection_ends_the_conversation(error: BaseException | None, why: str) -> None:
    """With what the operating system said of it."""
    async with by_hand() as hand:
        hand.connection.connection_lost(error)

        assert str(await hand.end()) == why


async def test_a_lost_connection_leaves_no_timers(hand: Hand) -> None:
    """They would hold it, and all that is attached to it, in memory."""
    hand.connection.connection_lost(None)

    assert hand.connection._watch._timer.cancelled()
    assert hand.connection._deadline is not None
    assert hand.connection._deadline.cancelled()


async def test_a_peer_that_hangs_up_without_a_goodbye_has_done_so(hand: Hand) -> None:
    """A process that was killed."""
    hand.connection.eof_received()

    assert str(await hand.end()) == "the connection was lost: the peer hung up"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\xc1\x00", 1002),  # a reserved bit
        (b"\x88\x01x", 1002),  # half a code in a close frame
        (b"\x88\x02\x03\xed", 1002),  # a code that nobody may send
        (b"\x88\x03\x03\xe8\xff", 1007),  # a reason that is no text
        (b"\x81\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"), 1009),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_told_so(bad: bytes, code: int) -> None:
    """With the code of the rule, and nothing more is read."""
    async with by_hand(received=b"\x81\x01a" + bad + b"\x81\x01b") as hand:
        assert await hand.received(1) == [b"a"]
        closed = await hand.end()
        frames = hand.frames()

    assert (closed.code, closed.by_us) == (code, True)
    assert [(frame.opcode, frame.data[:2]) for frame in frames] == [(Opcode.CLOSE, code.to_bytes(2, "big"))]


async def test_what_is_too_large_may_change() -> None:
    """A stranger may send less than an agent that is known."""
    transport = MemoryTransport()
    connection = WebSocketConnection(transport, Side.CLIENT, max_message_bytes=200)
    connection.max_message_bytes = 2 * connection.max_message_bytes
    connection.data_received(b"\x81\x7e\x01\x90" + b"x" * 400)
    connection.data_received(b"\x81\x7e\x01\x91")

    assert len(await connection.receive()) == 400
    with pytest.raises(ChannelClosed, match="1009: a message of more than 400 bytes"):
        await connection.receive()
    connection.connection_lost(None)


async def test_a_reason_that_is_too_long_is_cut(hand: Hand) -> None:
    """A close frame has room for 123 bytes, and no half character."""
    closing = asyncio.create_task(hand.connection.close(4003, "é" * 200))
    await asyncio.sleep(0)
    frames = hand.frames()
    hand.connection.connection_lost(None)
    await closing

    assert bytes(frames[0].data[2:]).decode() == "é" * 61


async def test_a_transport_that_cannot_close_its_half_is_closed() -> None:
    """As with TLS."""

    class Whole(MemoryTransport):
        """Has no halves."""

        def can_write_eof(self) -> bool:
            return False

    transport = Whole()
    connection = WebSocketConnection(transport, Side.SERVER)
    connection.data_received(masked(b"\x03\xe8", 0x88))
    await connection.close(1000, "")

    assert transport.is_closed


# --- whether the peer lives --------------------------------------------------------------


async def test_a_silent_peer_is_pinged_and_then_given_up(hand: Hand) -> None:
    """Each side does so (field note 38)."""
    side = hand.connection._rules.side
    async with by_hand(side, Patience(0.02, 0.02)) as silent:
        closed = await silent.end()
        frames = silent.frames()

    assert str(closed) == "the connection was given up: the peer was silent for 0.04 s"
    assert {frame.opcode for frame in frames} == {Opcode.PING}


async def test_a_full_transport_is_given_no_pings() -> None:
    """They would wait behind the rest."""
    async with by_hand(patience=Patience(0.02, 0.02)) as hand:
        hand.transport.hold()
        hand.connection.send(b"x" * (HIGH_WATER_BYTES + 1))
        hand.connection.flush()
        written_bytes = len(hand.transport.written)
        await hand.end()

        assert len(hand.transport.written) == written_bytes


async def test_a_silent_peer_that_takes_what_waits_lives() -> None:
    """However little waits: its pong is behind that."""
    async with by_hand(patience=Patience(0.02, 0.02)) as hand:
        hand.transport.hold()
        hand.connection.send(b"x" * 1000)
        hand.connection.flush()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await hand.connection.receive()
            hand.transport.let_go(10)


# --- over loopback -----------------------------------------------------------------------


class Server:
    """Echoes, and remembers how each conversation went."""

    def __init__(self) -> None:
        self.sockets: list[WebSocketConnection] = []
        self.ended: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def echo(self, accepted: WebSocketConnection) -> None:
        self.sockets.append(accepted)
        try:
            while True:
                say_at_once(accepted, await accepted.receive())
        except ChannelClosed as closed:
            self.ended.put_nowait(closed)

    async def end(self) -> ChannelClosed:
        async with asyncio.timeout(5):
            return await self.ended.get()


def say_at_once(some: WebSocketConnection, message: bytes) -> None:
    some.send(message)
    some.flush()


@asynccontextmanager
async def conversation(patience: Patience = PATIENCE) -> AsyncIterator[tuple[WebSocketConnection, Server]]:
    """A dialled socket, and the server that echoes what it sends."""
    server = Server()
    async with websocket_server(server.echo, patience=patience) as url:
        dialled = await dial(url, DialOptions(patience=patience))
        try:
            yield dialled, server
        finally:
            await dialled.close(1000, "")


async def received(some: WebSocketConnection) -> bytes:
    async with asyncio.timeout(10):
        return await some.receive()


async def fill(some: WebSocketConnection) -> None:
    """Send until no more is taken, and go on if more is."""
    some.on_room = lambda: say_at_once(some, b"x" * 1_000_000)
    while not some.is_full:
        some.on_room()
        await asyncio.sleep(0)


async def test_messages_go_both_ways_as_they_are() -> None:
    """The same bytes, in order."""
    async with conversation() as (dialled, _):
        messages = [b'{"a":1}', '{"ü":"\N{ROCKET}"}'.encode(), b"\x01\x00\xff", b"{}" * 50_000]
        for message in messages:
            say_at_once(dialled, message)

        assert [await received(dialled) for _ in messages] == messages


async def test_a_close_carries_code_and_reason_to_both_sides() -> None:
    """Who closed is told apart, and it takes no time."""
    async with conversation() as (dialled, server), asyncio.timeout(CLOSE_TIMEOUT_S / 2):
        await dialled.close(4003, "because")
        theirs = await server.end()
        with pytest.raises(ChannelClosed) as ours:
            await dialled.receive()

    assert (theirs.code, theirs.reason, theirs.by_us) == (4003, "because", False)
    assert (ours.value.code, ours.value.reason, ours.value.by_us) == (4003, "because", True)


async def test_the_servers_close_arrives_with_its_code() -> None:
    """The agent's next step depends on it (protocol.md 10)."""

    async def replace(accepted: WebSocketConnection) -> None:
        async with asyncio.timeout(CLOSE_TIMEOUT_S / 2):
            await accepted.close(4002, "replaced by a newer connection")
        with pytest.raises(ChannelClosed) as again:
            await accepted.receive()
        assert again.value.by_us

    async with websocket_server(replace) as url:
        dialled = await dial(url, QUICK)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        say_at_once(dialled, b"into the void")
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


async def test_small_messages_are_not_held_back_on_either_side() -> None:
    """TCP_NODELAY is on."""
    async with conversation() as (dialled, server):
        say_at_once(dialled, b"{}")
        await received(dialled)
        for each in (dialled, server.sockets[0]):
            tcp = each._transport.get_extra_info("socket")
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_the_librarys_own_client_is_served() -> None:
    """Third-party agents are; pings, pieces and a goodbye included."""
    async with (
        websocket_server(Server().echo) as url,
        connect(url, compression=None, proxy=None) as client,
        asyncio.timeout(5),
    ):
        await (await client.ping(b"hi"))
        await client.send(["a", "b", "c"])
        assert await client.recv(decode=False) == b"abc"
        await client.send(b"\x01binary")
        assert await client.recv() == b"\x01binary"


async def test_a_message_of_the_limit_passes_and_a_larger_one_closes_with_1009() -> None:
    """64 MiB, both ways; the side that refuses says so, and the other learns why."""
    async with conversation() as (dialled, server):
        say_at_once(dialled, b"x" * MAX_MESSAGE_BYTES)
        assert len(await received(dialled)) == MAX_MESSAGE_BYTES
        say_at_once(dialled, b"x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ChannelClosed) as ours:
            await received(dialled)
        theirs = await server.end()

    assert (theirs.code, theirs.by_us) == (1009, True)
    assert ours.value.code in (1009, None)  # None: the reset overtook the close frame


async def test_an_oversized_message_to_the_agent_closes_with_1009() -> None:
    """The other way round."""

    async def shout(accepted: WebSocketConnection) -> None:
        say_at_once(accepted, b"x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ChannelClosed):
            await received(accepted)

    async with websocket_server(shout) as url:
        dialled = await dial(url, QUICK)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        await dialled.close(1000, "")

    assert (closed.value.code, closed.value.by_us) == (1009, True)


async def test_a_quiet_session_lives_and_its_receive_waits_undisturbed() -> None:
    """Both sides ping and answer, for longer than either's patience, while a receive waits."""
    async with conversation(Patience(0.02, 0.3)) as (dialled, _):
        opened_s = dialled._liveness.heard_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await dialled.receive()
        say_at_once(dialled, b"{}")

        assert dialled._liveness.heard_s > opened_s + 0.3
        assert await received(dialled) == b"{}"


async def test_an_agent_whose_message_takes_long_lives_by_each_byte_of_it() -> None:
    """It answers every ping by the next piece of one message: any byte counts, not only whole messages."""
    message = masked(b"x" * 100)
    pieces = [message[:1], message[1:3], message[3:50], message[50:]]
    async with (
        websocket_server(Server().echo, patience=Patience(0.02, 0.3)) as url,
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


async def test_a_goodbye_to_a_server_that_takes_nothing_is_bounded() -> None:
    """Closing takes a second at most, also while much waits."""
    async with half_open_server() as url:
        dialled = await dial(url, QUICK)
        await fill(dialled)
        async with asyncio.timeout(3):
            await dialled.close(1000, "")


async def test_a_goodbye_to_an_agent_that_takes_nothing_is_bounded_too() -> None:
    """The coordinator's side of the same."""
    done = asyncio.Event()

    async def leave(accepted: WebSocketConnection) -> None:
        await fill(accepted)
        async with asyncio.timeout(3):
            await accepted.close(1001, "drain:deploy")
        done.set()

    async with websocket_server(leave) as url, mute_client(url), asyncio.timeout(5):
        await done.wait()


async def test_an_agent_that_is_reset_while_the_coordinator_writes_ends_as_lost() -> None:
    """Whatever the loop says of it, it is the end of the channel."""
    stuck = asyncio.Event()
    ends: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def write(accepted: WebSocketConnection) -> None:
        await fill(accepted)
        stuck.set()
        try:
            await accepted.receive()
        except ChannelClosed as closed:
            ends.put_nowait(closed)

    async with websocket_server(write) as url, asyncio.timeout(5):
        async with mute_client(url):
            await stuck.wait()
        end = await ends.get()

    assert (end.code, end.by_us) == (None, False)


async def test_a_server_that_talks_but_takes_nothing_is_given_up() -> None:
    """What waits for it would wait for ever."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(PING)
            await asyncio.sleep(0.005)

    async with half_open_server(then=talk) as url:
        dialled = await dial(url, DialOptions(patience=Patience(0.02, 0.02, stalled_after_s=0.05)))
        await fill(dialled)
        with pytest.raises(ChannelClosed) as closed:
            await received(dialled)
        await dialled.close(1000, "")

    assert str(closed.value) == "we closed the connection with 4003: the peer took no bytes for 0.05 s"


async def test_an_agent_that_takes_nothing_is_given_up() -> None:
    """The coordinator's side of the same."""
    ends: asyncio.Queue[ChannelClosed] = asyncio.Queue()

    async def serve(accepted: WebSocketConnection) -> None:
        await fill(accepted)
        with pytest.raises(ChannelClosed) as closed:
            await accepted.receive()
        ends.put_nowait(closed.value)

    patience = Patience(0.02, 0.02, stalled_after_s=0.01)
    async with (
        websocket_server(serve, patience=patience) as url,
        mute_client(url),
        asyncio.timeout(5),
    ):
        end = await ends.get()

    assert str(end) == "we closed the connection with 4003: the peer took no bytes for 0.01 s"


async def test_a_full_socket_goes_on_when_the_peer_reads_again() -> None:
    """Every byte arrives."""
    room = asyncio.Event()

    async def write(accepted: WebSocketConnection) -> None:
        accepted.on_room = room.set
        for _ in range(40):
            while accepted.is_full:
                room.clear()
                await room.wait()
            say_at_once(accepted, b"x" * 100_000)
        with pytest.raises(ChannelClosed):
            await accepted.receive()

    async with websocket_server(write) as url, asyncio.timeout(10):
        dialled = await dial(url, QUICK)
        assert [len(await dialled.receive()) for _ in range(40)] == [100_000] * 40
        await dialled.close(1000, "")


@pytest.mark.parametrize(
    "claim",
    [
        test_messages_go_both_ways_as_they_are,
        test_a_close_carries_code_and_reason_to_both_sides,
        test_the_servers_close_arrives_with_its_code,
        test_the_servers_goodbye_is_the_end_even_if_it_keeps_the_connection,
        test_the_librarys_own_client_is_served,
        test_a_message_of_the_limit_passes_and_a_larger_one_closes_with_1009,
        test_an_agent_whose_message_takes_long_lives_by_each_byte_of_it,
        test_a_half_open_server_is_noticed,
        test_a_half_open_agent_is_noticed,
        test_a_goodbye_to_a_server_that_takes_nothing_is_bounded,
        test_a_goodbye_to_an_agent_that_takes_nothing_is_bounded_too,
        test_an_agent_that_is_reset_while_the_coordinator_writes_ends_as_lost,
        test_a_server_that_talks_but_takes_nothing_is_given_up,
        test_an_agent_that_takes_nothing_is_given_up,
        test_a_full_socket_goes_on_when_the_peer_reads_again,
    ],
)
def test_the_other_event_loop_keeps_the_same_promises(claim: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """uvloop, which the programs run on, ends interrupted writes and timers in its own way."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(claim())
