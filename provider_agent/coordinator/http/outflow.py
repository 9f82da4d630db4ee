"""An answer's way to its client's connection: pushed as it comes, one write per loop turn; knows no job.

1. What waits when the response is opened is written with its head, by the library.
2. From then on, what arrives goes from `Answer.feed` to the transport: all of one loop turn in one
   write, with no task and no queue between. Whoever serves the request sleeps until the end.
3. While the transport is above its high water, bytes stay in the answer, and are not consumed.
4. What is left at the end is written with the end, by the library: it knows nothing of 2, nor
   need it, as chunked encoding has no count.
"""

import asyncio
from typing import Protocol, cast

from aiohttp import web

from provider_agent.coordinator.answer import NEVER, Answer, Done, Failed

TURN_BYTES = 16 * 1024
"""So much is written at once, without waiting for the end of the loop turn."""

PIECE_BYTES = 64 * 1024
"""The most that is written before we look whether the client takes it, unless one chunk is larger."""

_HTTP_1_1 = (1, 1)


class StreamResponse(web.StreamResponse):
    """A response that is sent as it comes; its head leaves with its first bytes."""

    _send_headers_immediately = False

    def __init__(self, request: web.Request, *, status: int = 200, headers: dict[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        if request.version < _HTTP_1_1:  # only the closed connection tells such a client of the end
            self.force_close()


class ClientConnection(Protocol):
    """What an outflow asks of the connection that it writes to.

    Attributes:
        outflow: who is to be told when the transport is above its high water, and when it is below again.
        turn: of the event loop that it lives in.
    """

    outflow: "Outflow | None"
    turn: "Turn"

    @property
    def transport(self) -> asyncio.Transport | None: ...

    @property
    def writing_paused(self) -> bool: ...


class Turn:
    """The outflows that are to write at the end of this turn of the event loop; one callback for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[Outflow] = []

    def add(self, outflow: "Outflow") -> None:
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due.append(outflow)

    def _flush(self) -> None:
        try:
            while self._due:
                self._due.pop().flush()
        finally:
            if self._due:  # a defect in one answer must not stop the others
                self._loop.call_soon(self._flush)


class Outflow:
    """Pushes an answer into a connection for as long as it lives."""

    __slots__ = ("_answer", "_is_chunked", "_is_paused", "_transport", "_turn")

    def __init__(
        self, answer: Answer, transport: asyncio.Transport, turn: Turn, *, is_chunked: bool, is_paused: bool
    ) -> None:
        self._answer = answer
        self._transport = transport
        self._turn = turn
        self._is_chunked = is_chunked
        self._is_paused = is_paused
        answer.tell = self._arrive
        if not is_paused:
            self.resume()

    def pause(self) -> None:
        """The transport holds enough: what comes now waits in the answer."""
        self._is_paused = True
        self._answer.tell_at_bytes = NEVER

    def resume(self) -> None:
        """The transport has room, and so whatever was written to it has been consumed."""
        self._is_paused = False
        self._answer.consumed()
        self.flush()

    def stop(self) -> None:
        """Write no more, whatever comes."""
        self._is_paused = True
        self._answer.tell_nobody()

    def note_progress(self) -> None:
        """A client may be too slow for `resume` to come soon: say how much has left by now."""
        if self._is_paused:
            self._answer.consumed(self._transport.get_write_buffer_size())

    def _arrive(self) -> None:
        if self._answer.waiting_bytes >= TURN_BYTES:
            self.flush()
        else:
            self._answer.tell_at_bytes = TURN_BYTES
            self._turn.add(self)

    def flush(self) -> None:
        """Write what waits, as far as the transport has room; behind the end, that is not ours to do."""
        answer, transport = self._answer, self._transport
        if self._is_paused or answer.outcome is not None or transport.is_closing():
            return
        answer.tell_at_bytes = 1
        while answer.waiting_bytes and not self._is_paused:  # a write may pause us
            data = answer.take(PIECE_BYTES)
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
            if not self._is_paused:
                answer.consumed()


async def relay(request: web.Request, response: web.StreamResponse, answer: Answer) -> Done | Failed:
    """Pass on what waits and what comes, until the end: what waits then is left for the caller.

    Raises:
        ConnectionError: the client has left.
    """
    await response.prepare(request)
    connection = cast("ClientConnection", request.protocol)
    await _write_waiting(response, answer, connection)
    if answer.outcome is None and connection.transport is not None:
        connection.outflow = outflow = Outflow(
            answer,
            connection.transport,
            connection.turn,
            is_chunked=request.version >= _HTTP_1_1,
            is_paused=connection.writing_paused,
        )
        try:
            await answer.ended()
        finally:
            connection.outflow = None
            outflow.stop()
        await _write_waiting(response, answer, connection)
    return await answer.ended()


async def _write_waiting(response: web.StreamResponse, answer: Answer, connection: ClientConnection) -> None:
    """Write what waits, piece by piece; of an answer that has ended, all but the last piece."""
    while answer.waiting_bytes > (0 if answer.outcome is None else PIECE_BYTES):
        await response.write(answer.take(PIECE_BYTES))
        if not connection.writing_paused:
            answer.consumed()
