"""One connection to an engine: a request goes out, its answer is pushed to a reader; knows no form of answer.

What arrives goes from the socket's callback through the parser to the reader, with no task, queue or
future in between. All wires of a client read into one buffer: it is filled and emptied in one step.
"""

import asyncio
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from provider_agent.backends.framing import Framing, Head, NotHttp
from provider_agent.backends.silence import Silence

READ_BYTES: Final = 64 * 1024
"""What one read may bring, and so what may still come after a pause."""

CLOSE_TIMEOUT_S: Final = 2.0
_IN_ONE_PIECE_BYTES: Final = 256 * 1024
"""A longer request is written bit by bit, so that the other jobs go on meanwhile."""

_NOTHING: Final = memoryview(b"")
_SMALL_BYTES: Final = 512


class ReadBuffer(dict[int, memoryview]):
    """What wires read into, and its first so many bytes, by their number: those of a token are kept at hand.

    Attributes:
        whole: all of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole = memoryview(bytearray(READ_BYTES))

    def __missing__(self, size_bytes: int) -> memoryview:
        first = self.whole[:size_bytes]
        if size_bytes <= _SMALL_BYTES:
            self[size_bytes] = first
        return first


class Lost(Exception):
    """The connection ended before the answer did. `was_heard`: something of the answer had come."""

    def __init__(self, *, was_heard: bool) -> None:
        super().__init__("the connection ended before the answer")
        self.was_heard = was_heard


class EngineSilent(Exception):
    """The engine sent nothing for as long as it may."""


class Wire(asyncio.BufferedProtocol):
    """One connection; it carries one answer at a time.

    Attributes:
        transport: set when the connection is made.
        silence: how long the engine says nothing; what there is of its answer is cut off in the end.
        on_spoiled: told when this connection, while it rests, has become useless.
    """

    __slots__ = (
        "_buffer",
        "_cut",
        "_framing",
        "_gone",
        "_has_ended",
        "_head_came",
        "_is_blocked",
        "_is_connected",
        "_is_leaving",
        "_is_paused",
        "_is_spoiled",
        "_loop",
        "_on_data",
        "_on_end",
        "_received",
        "_unsent",
        "on_spoiled",
        "silence",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, buffer: ReadBuffer) -> None:
        self.silence = Silence(self._fall_silent)
        self.on_spoiled: Callable[[Wire], None] | None = None
        self._received = buffer
        self._buffer = buffer.whole
        self._loop = asyncio.get_running_loop()
        self._framing = Framing()
        self._on_data: Callable[[bytes], None] | None = None
        self._on_end: Callable[[Exception | None], None] = _ignore_end
        self._cut: Exception | None = None
        self._has_ended = False  # the answer has, whole or not
        self._is_spoiled = False
        self._is_paused = False
        self._is_leaving = False
        self._is_connected = False
        self._unsent = _NOTHING
        self._is_blocked = False
        self._head_came: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    # --- a request and its answer ---------------------------------------------------------

    def send(self, head: bytes, body: bytes) -> None:
        """Send a request; it never waits. A connection that rested is at work again."""
        if self.on_spoiled is not None:
            self.on_spoiled = None
            self._has_ended = False
            self._framing.begin()
        if len(body) <= _IN_ONE_PIECE_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._unsent = memoryview(body)
            self._write_on()

    async def answered(self) -> Head:
        """The head of the answer. Raises Lost, NotHttp, EngineSilent."""
        if self._framing.head is None and not self._has_ended:
            self._head_came = self._loop.create_future()
            await self._head_came
            self._head_came = None
        if self._framing.head is None:
            raise self._cut or Lost(was_heard=False)
        return self._framing.head

    def read(self, on_data: Callable[[bytes], None], on_end: Callable[[Exception | None], None]) -> None:
        """Push the body to `on_data`, then its end with what cut it off; what is here already, at once."""
        self._on_data, self._on_end = on_data, on_end
        self.resume()
        pieces = self._framing.pieces
        if pieces:
            data = b"".join(pieces)
            pieces.clear()
            on_data(data)
        if self._has_ended:
            on_end(self._cut)

    def read_on(self, on_data: Callable[[bytes], None]) -> None:
        """Push what follows to somebody else."""
        self._on_data = on_data

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body, cut off at the limit. Raises what cut it short before."""
        body = bytearray()
        over: asyncio.Future[Exception | None] = self._loop.create_future()

        def keep(data: bytes) -> None:
            body.extend(data)
            if len(body) >= limit_bytes:
                end(None)

        def end(cut: Exception | None) -> None:
            if not over.done():
                over.set_result(cut)

        self.read(keep, end)
        cut = await over
        if cut is not None:
            raise cut
        return bytes(body[:limit_bytes])

    def pause(self) -> None:
        """Read nothing more from the socket."""
        if self._is_connected and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._is_connected and self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    # --- afterwards -----------------------------------------------------------------------

    @property
    def may_become_reusable(self) -> bool:
        """It is, or lacks only the end mark of a body that is whole."""
        head = self._framing.head
        is_sound = self._is_connected and not (self._is_spoiled or self._unsent or self._cut)
        return is_sound and head is not None and head.is_persistent and head.has_end

    @property
    def is_reusable(self) -> bool:
        return (
            self._framing.is_complete
            and self.may_become_reusable
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    @property
    def has_news(self) -> bool:
        """Something came, or the end, that the loop has not seen yet."""
        return self.transport.is_closing() or _is_readable(self.transport)

    def rest(self, on_spoiled: Callable[["Wire"], None]) -> None:
        """Nothing is expected until the next request; whatever comes ends the connection."""
        self._on_data, self._on_end = None, _ignore_end
        self.silence.end()
        self.on_spoiled = on_spoiled
        self.resume()

    def abort(self) -> None:
        """Close the connection now, whatever is under way."""
        self._is_leaving = True
        self._unsent = _NOTHING
        if self._is_connected:
            self.transport.abort()

    async def hang_up(self) -> None:
        """Close the connection now; return when it is closed (or after 2 s). Nothing is pushed any more."""
        self._on_data, self._on_end = None, _ignore_end
        self.abort()
        if self._is_connected:
            self._gone = self._loop.create_future()
            await asyncio.wait((self._gone,), timeout=CLOSE_TIMEOUT_S)

    # --- called by the loop ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._is_connected = True
        if self._has_ended:  # under TLS, an odd server may have spoken before
            self.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size_bytes: int) -> None:
        """On the path of every token."""
        framing = self._framing
        feed = framing.feed  # first a local: a field that is called at once costs twice the time
        broken: Exception | None = None
        try:
            feed(self._received[size_bytes])
        except NotHttp as error:
            broken = error
        pieces, on_data = framing.pieces, self._on_data
        if not pieces:
            framing.overhead_bytes += size_bytes
        elif on_data is not None:
            framing.overhead_bytes = 0
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            on_data(data)
            if broken is None and not framing.is_complete:
                return
        self._note(broken)

    def eof_received(self) -> None:
        """An engine that says no more is not listened for any more, nor written to."""
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_connected = False
        self._unsent = _NOTHING  # uvloop raises where a closed connection is written to
        self.silence.stop()
        if isinstance(error, OSError) and not self._is_leaving and sys.platform != "win32":
            self._hear_last_words()
        head = self._framing.head
        is_end_of_body = head is not None and not head.has_end and error is None and not self._is_leaving
        if is_end_of_body:
            self._end(None)
        else:
            lost = Lost(was_heard=head is not None or self._framing.overhead_bytes > 0)
            lost.__cause__ = error
            self._end(lost)
        self._framing.release()
        if self.on_spoiled is not None:
            self.on_spoiled(self)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._write_on()

    # --- inside ---------------------------------------------------------------------------

    def _note(self, broken: Exception | None) -> None:
        """What a read has changed, besides the bytes that it brought.

        1. Nobody had asked.
        2. The answer is whole; if more came with it, it was the last one over this connection.
        3. It is no HTTP, or not any more.
        4. The head is here, and maybe the beginning of a body that nobody takes yet.
        """
        framing = self._framing
        try:
            framing.check()
        except NotHttp as error:
            broken = broken or error
        if self.on_spoiled is not None:  # 1
            self.abort()
        elif framing.is_complete:  # 2
            self._is_spoiled = self._is_spoiled or broken is not None
            self._end(None)
        elif broken is not None:  # 3
            self._end(broken)
            self.abort()
        elif framing.head is not None:  # 4
            self._wake()
            if framing.pieces:
                self.pause()

    def _end(self, cut: Exception | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._cut = cut
        self._wake()
        self._on_end(cut)

    def _hear_last_words(self) -> None:
        """A refusal may come before the whole request has gone, and a reset right behind it.

        That ends the writing before anybody reads. asyncio closes the socket only after this; uvloop has
        read it by then, and closed it.
        """
        transport: asyncio.BaseTransport = self.transport
        if not isinstance(transport, asyncio.Transport):  # it is uvloop's
            return
        if transport.get_extra_info("sslcontext") or not _is_readable(transport):
            return
        size_bytes = 0
        with suppress(OSError):
            size_bytes = os.readv(transport.get_extra_info("socket").fileno(), [self._buffer])
        if size_bytes:
            self.buffer_updated(size_bytes)

    def _fall_silent(self) -> None:
        self._end(EngineSilent())

    def _wake(self) -> None:
        if self._head_came is not None and not self._head_came.done():
            self._head_came.set_result(None)

    def _write_on(self) -> None:
        """A piece in each turn of the loop, for as long as the transport takes them."""
        if not self._unsent or self._is_blocked:
            return
        piece, self._unsent = self._unsent[:_IN_ONE_PIECE_BYTES], self._unsent[_IN_ONE_PIECE_BYTES:]
        self.transport.write(piece)
        if not self._is_blocked:
            self._loop.call_soon(self._write_on)


def _is_readable(transport: asyncio.Transport) -> bool:
    """Whether the system has something to read, or the end."""
    number = transport.get_extra_info("socket").fileno()
    if sys.platform == "win32":
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _ignore_end(_cut: Exception | None) -> None:
    """Nobody reads."""
