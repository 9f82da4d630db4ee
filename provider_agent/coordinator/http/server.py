"""Connections as this server holds them: prompt, patient for a while, and discreet; knows no route.

The library answers what is no HTTP with the client's own bytes, and logs them with a traceback: a
wrong Content-Length is enough to get a prompt there, a stray control character to get a key there.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web

from provider_agent.coordinator.http.errors import error_response, translated
from provider_agent.coordinator.http.outflow import Outflow, Turn
from provider_agent.coordinator.http.stall import WRITE_PATIENCE_S, StallWatch
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.tcp import HIGH_WATER_BYTES, is_reading, set_low_delay

HEAD_PATIENCE_S = 30.0
"""How long a new connection may take until its first request has a whole head."""

CROWDED_PATIENCE_S = 0.02
"""How long one answer may keep a client waiting whose next requests are more than we read ahead."""

NAME = "provider-agent"
"""What the server calls itself; the library would tell its version, and Python's."""

log = get_logger(__name__)


class Connection(web.RequestHandler):
    """One client's connection.

    Attributes:
        outflow: who pushes an answer into it now.
        turn: what all connections of this server write at the end of the loop turn.
    """

    __slots__ = (
        "_crowded_due", "_head_due", "_head_patience_s", "_stall", "_write_patience_s", "outflow", "turn",
    )  # fmt: skip

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        head_patience_s: float = HEAD_PATIENCE_S,
        write_patience_s: float = WRITE_PATIENCE_S,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self.turn = turn
        self.outflow: Outflow | None = None
        self._head_patience_s = head_patience_s
        self._write_patience_s = write_patience_s
        self._head_due: asyncio.TimerHandle | None = None
        self._crowded_due: asyncio.TimerHandle | None = None
        self._stall: StallWatch | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        wire = cast("asyncio.Transport", transport)
        wire.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        set_low_delay(wire)
        self._head_due = self._loop.call_later(self._head_patience_s, self._give_up_without_head)
        self._stall = StallWatch(self._loop, wire, self._write_patience_s, self._look)

    def connection_lost(self, exc: BaseException | None) -> None:
        for due in (self._head_due, self._crowded_due):
            if due is not None:
                due.cancel()
        if self._stall is not None:
            self._stall.stop()
            self._stall = None
        super().connection_lost(exc)

    # --- writing --------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is not None:
            self._stall.start()
        if self.outflow is not None:
            self.outflow.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.stop()
        if self.outflow is not None:
            self.outflow.resume()

    def eof_received(self) -> None:
        """The client has left: an answer that it does not take must not keep the job alive."""
        if self._current_request is None or self.transport is None:
            return
        if self.transport.get_write_buffer_size() > 0:
            self.transport.abort()

    def _look(self) -> None:
        if self.outflow is not None:
            self.outflow.note_progress()

    # --- reading --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._mind_the_crowd()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if that had been given up: the library asks for it with every part of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @property
    def _is_crowded(self) -> bool:
        """Whether so much waits that we do not read on, and so would not see the client leave."""
        return bool(self._messages) and self.transport is not None and not is_reading(self.transport)

    def _mind_the_crowd(self) -> None:
        if self._is_crowded and self._crowded_due is None:
            self._crowded_due = self._loop.call_later(
                CROWDED_PATIENCE_S, self._give_up_if_crowded, self._current_request
            )

    def _give_up_without_head(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def _give_up_if_crowded(self, served: web.BaseRequest | None) -> None:
        """Hang up unless it goes on: the job that this request became would outlive its client."""
        self._crowded_due = None
        if self._is_crowded and served is not None and served is self._current_request:
            log.debug("connection_crowded", waiting=len(self._messages))
            self.force_close()
        else:
            self._mind_the_crowd()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; one that no middleware has seen gets its shape here."""
        if isinstance(resp, web.HTTPException) and resp.status >= HTTPStatus.BAD_REQUEST:
            resp = translated(resp)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer what got past the application: what is no HTTP, and what its outermost part raised."""
        self._tell(exc, is_ours=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        if status == HTTPStatus.BAD_REQUEST:
            response = error_response(status, "bad_request", "the request is not valid HTTP")
        else:
            response = error_response(status, "internal", "the coordinator failed on this request")
        response.force_close()
        response.headers[hdrs.SERVER] = NAME
        return response

    def log_exception(self, *_: Any, **options: Any) -> None:
        """What came up outside of any handler; of a body that is read only to be thrown away, no matter."""
        error = options.get("exc_info")
        self._tell(error, is_ours=not isinstance(error, web.RequestPayloadError))

    def _tell(self, error: object, *, is_ours: bool) -> None:
        """By its class alone: the text of an error may quote the request."""
        (log.error if is_ours else log.debug)("connection_failed", error=type(error).__name__)


class _Server(web.Server):
    """Makes connections of our kind."""

    def __init__(self, *handlers: Any, **options: Any) -> None:
        super().__init__(*handlers, **options)
        self._turn = Turn(self._loop)

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, turn=self._turn, **self._kwargs)


class Runner(web.AppRunner):
    """Serves an application over connections of our kind; takes their `head_patience_s`, too."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, **options)
        app.on_response_prepare.append(_introduce)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


async def _introduce(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = NAME
