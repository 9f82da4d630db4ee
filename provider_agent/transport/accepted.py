"""The coordinator's end of a WebSocket: takes a connection over from aiohttp; knows no frame of ours.

aiohttp judges the request. The answer is ours, since its own WebSocket would read on behind it.
"""

import asyncio
from typing import Any, cast

from aiohttp import hdrs, web
from websockets.utils import accept_key

from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.transport.liveness import PATIENCE, Patience
from provider_agent.transport.socket import ChannelClosed
from provider_agent.transport.websocket import SUBPROTOCOL, Side, WebSocketConnection


async def accept(
    request: web.Request, patience: Patience = PATIENCE, *, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> "AcceptedSocket":
    """Turn a request into a WebSocket, whose `max_message_bytes` may be changed later.

    Raises:
        aiohttp.web.HTTPBadRequest: the request does not ask for one; the server answers with it.
        ChannelClosed: the client is gone.
    """
    judge = web.WebSocketResponse(protocols=(SUBPROTOCOL,), compress=False)
    verdict = judge.can_prepare(request)
    if not verdict:
        await judge.prepare(request)  # says what is wrong
    response = Upgrade(accept_key(request.headers[hdrs.SEC_WEBSOCKET_KEY]), verdict.protocol)
    try:
        await response.prepare(request)
    except ConnectionError as error:
        raise ChannelClosed(None, "during the handshake") from error
    assert request.transport is not None  # noqa: S101 - for mypy: it could be written to
    # From the answer to the end without a pause, lest something arrive for a parser that is not ours.
    follower = _Follower()
    request.protocol.set_parser(cast(Any, follower))
    return AcceptedSocket(
        response,
        request.protocol,
        request.transport,
        patience,
        follower.take(),
        max_message_bytes=max_message_bytes,
    )


class Upgrade(web.StreamResponse):
    """The answer that makes a WebSocket of a connection, and what the HTTP handler returns in the end.

    Attributes:
        socket: what became of the connection.
    """

    def __init__(self, key: str, subprotocol: str | None) -> None:
        super().__init__(status=101)
        self.socket: WebSocketConnection | None = None
        self.headers[hdrs.UPGRADE] = "websocket"
        self.headers[hdrs.CONNECTION] = "Upgrade"
        self.headers[hdrs.SEC_WEBSOCKET_ACCEPT] = key
        if subprotocol is not None:
            self.headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = subprotocol

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp gives none here
        """Called when the handler has returned: the last moment for a goodbye."""
        if self.socket is not None:
            await self.socket.close(1000, "")


class AcceptedSocket(WebSocketConnection):
    """The same, but that aiohttp learns of its end: the server counts its connections.

    Attributes:
        response: what the HTTP handler returns in the end.
    """

    def __init__(
        self,
        response: Upgrade,
        server: web.RequestHandler,
        transport: asyncio.Transport,
        patience: Patience,
        received: bytes,
        *,
        max_message_bytes: int,
    ) -> None:
        self.response = response
        self._server = server
        response.socket = self
        super().__init__(transport, Side.SERVER, patience, received, max_message_bytes=max_message_bytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        lost = ConnectionAbortedError() if isinstance(exc, asyncio.CancelledError) else exc
        self._server.connection_lost(lost)


class _Follower:
    """Stands for one of aiohttp's parsers, to be given what came right behind the request."""

    def __init__(self) -> None:
        self._received = b""

    def take(self) -> bytes:
        received, self._received = self._received, b""
        return received

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._received += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost."""
