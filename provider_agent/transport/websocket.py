"""One WebSocket connection after its handshake, either end of it; knows no frame of ours and no HTTP.

Messages pass here without a task between socket and channel. Pings, the goodbye and what is to be said
to a peer that breaks the rules are the library's, which is given the control frames.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from websockets.protocol import Protocol, Side, State

from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.transport.dialling import in_words
from provider_agent.transport.framing import BadFraming, Inbox, MessageReader, MessageWriter
from provider_agent.transport.liveness import PATIENCE, Patience, Verdict, Watch
from provider_agent.transport.socket import ChannelClosed
from provider_agent.transport.tcp import HIGH_WATER_BYTES, is_reading, set_low_delay

__all__ = ["SUBPROTOCOL", "Side", "WebSocketConnection"]

SUBPROTOCOL = "provider-agent.v3"

STALLED = 4003
"""Our code for a peer that takes nothing (protocol.md 10)."""

CLOSE_TIMEOUT_S = 1.0
"""How long a connection lives on after its end, for the goodbyes."""

INBOX_BYTES = 1024 * 1024
INBOX_MESSAGES = 1000
"""How much is read ahead of whoever receives: more than this (and one read), and reading is paused."""

_MAX_REASON_BYTES = 123  # of a close frame, RFC 6455, 5.5
_PING, _PONG = b"\x89", b"\x8a"  # first byte of such a frame, RFC 6455, 5.2


class WebSocketConnection(asyncio.Protocol):
    """A `Socket`, and the protocol of its transport, whose reading and buffers it rules from now on.

    Attributes:
        send: collects a message; after the end, the next flush throws it away.
        is_full: too much waits in the transport.
        on_room: called when that is over.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        side: Side,
        patience: Patience = PATIENCE,
        received: bytes = b"",
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """`received` is what has arrived behind the handshake already."""
        self._loop = asyncio.get_running_loop()
        self._now_s = self._loop.time
        self._transport = transport
        self._patience = patience
        self._rules = Protocol(side)
        self._writer = MessageWriter(is_masked=side is Side.CLIENT)
        self.send = self._writer.add  # on the path of every token: no step in Python
        self._reader = MessageReader(
            is_masked=side is Side.SERVER, max_message_bytes=max_message_bytes, on_control=self._on_control
        )
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0  # read since the inbox was empty
        self._receiver: asyncio.Future[None] | None = None
        self._is_held = False  # our own pause of the reading
        self._written_bytes = 0
        self._ended: ChannelClosed | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self.on_room: Callable[[], None] = _nothing
        self._watch = Watch(
            patience,
            is_reading=lambda: is_reading(transport),
            taken_bytes=self._taken_bytes,
            ping=self._ping,
            give_up=self._give_up,
        )
        self._liveness = self._watch.liveness
        set_low_delay(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.is_full = transport.get_write_buffer_size() > HIGH_WATER_BYTES
        transport.set_protocol(self)
        if received:
            self.data_received(received)

    @property
    def max_message_bytes(self) -> int:
        """The largest message that is taken; may change at any time."""
        return self._reader.max_message_bytes

    @max_message_bytes.setter
    def max_message_bytes(self, size: int) -> None:
        self._reader.max_message_bytes = size

    # --- out ------------------------------------------------------------------------------

    def flush(self) -> None:
        data = self._writer.take()  # after the end, too: nobody else lets go of it
        if data and self._ended is None and not self._transport.is_closing():
            self._write(data)  # to one that is, the loops log a warning each time

    def _write(self, data: bytes) -> None:
        self._written_bytes += len(data)
        self._transport.write(data)

    def _answer(self) -> None:
        """What the library says; no pings nor pongs to a peer that takes nothing.

        It may ping as long as it likes, and would be answered into our memory.
        """
        for data in self._rules.data_to_send():
            if not data:
                self._hang_up()
            elif not (self.is_full and data[:1] in (_PING, _PONG)):
                self._write(data)

    def _hang_up(self) -> None:
        """Our half only, where that can be: the goodbye would not survive a peer that is still sending."""
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        with contextlib.suppress(OSError, RuntimeError):  # lost meanwhile; uvloop raises the latter
            self._transport.write_eof()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self.on_room()

    # --- in -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._liveness.heard_s = self._now_s()
        if self._ended is not None:
            self._feed(data, [])  # all that still counts is the peer's goodbye
            return
        self._feed(data, self._inbox)
        if self._inbox:
            self._inbox_bytes += len(data)
            self._wake()
            if self._inbox_bytes > INBOX_BYTES or len(self._inbox) > INBOX_MESSAGES:
                self._hold()

    def _feed(self, data: bytes, inbox: Inbox) -> None:
        try:
            self._reader.feed(data, inbox)
        except BadFraming as bad:
            self._rules.fail(bad.code, bad.reason)
            self._answer()
            self._end(ChannelClosed(bad.code, bad.reason, by_us=True))

    def _on_control(self, frame: bytes) -> None:
        rules = self._rules
        rules.receive_data(frame)
        rules.events_received()
        self._answer()
        if rules.parser_exc is not None and rules.close_sent is not None:
            self._end(ChannelClosed(rules.close_sent.code, rules.close_sent.reason, by_us=True))
        elif rules.close_rcvd is not None:
            self._end(ChannelClosed(rules.close_rcvd.code, rules.close_rcvd.reason))

    async def receive(self) -> bytes:
        inbox = self._inbox
        while not inbox:
            if self._ended is not None:
                raise self._ended.again()
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = inbox.popleft()
        if not inbox:
            self._inbox_bytes = 0
            self._release()
        return message

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _hold(self) -> None:
        if not self._is_held and self._ended is None:
            self._is_held = True
            self._transport.pause_reading()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """Then the transport closes itself. Some peers do so without a goodbye."""
        self._end(ChannelClosed(None, "the peer hung up"))

    # --- the end --------------------------------------------------------------------------

    async def close(self, code: int, reason: str) -> None:
        if self._ended is None:
            self.flush()
            self._rules.send_close(code, _fitting(reason))
            self._answer()
            self._end(ChannelClosed(code, reason, by_us=True))
        await self._lost.wait()

    def abort(self, closed: ChannelClosed) -> None:
        self._end(closed)
        self._transport.abort()

    def _end(self, closed: ChannelClosed) -> None:
        """Note the end, once. From here on the peer has a second to take its leave, too."""
        if self._ended is not None:
            return
        self._ended = closed
        self._watch.stop()
        self._deadline = self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self._release()
        self._wake()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Told by the transport; uvloop gives CancelledError for a write that an abort interrupts."""
        self._end(ChannelClosed(None, in_words(exc)))
        if self._deadline is not None:
            self._deadline.cancel()
        self._lost.set()

    # --- whether the peer lives -----------------------------------------------------------

    def _taken_bytes(self) -> int | None:
        waiting_bytes = self._transport.get_write_buffer_size()
        return self._written_bytes - waiting_bytes if waiting_bytes else None

    def _ping(self) -> None:
        if self._rules.state is State.OPEN:
            self._rules.send_ping(b"")
            self._answer()

    def _give_up(self, verdict: Verdict) -> None:
        code = STALLED if verdict is Verdict.STALLED else None
        self.abort(ChannelClosed(code, self._patience.tell(verdict), by_us=True))


def _nothing() -> None:
    pass


def _fitting(reason: str) -> str:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
