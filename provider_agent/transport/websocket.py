"""WebSockets, dialled and accepted, as the sockets of a channel; knows no frame and no turn.

The one module that knows the WebSocket libraries: whatever they raise leaves it as `DialError` or
`ChannelClosed`. Text messages are passed as their UTF-8 bytes, to spare the conversions.
"""

import asyncio
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from aiohttp import WebSocketError, WSMsgType, web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.typing import Subprotocol

from provider_agent import __version__
from provider_agent.protocol.frames import MAX_MESSAGE_BYTES
from provider_agent.transport.channel import PROTOCOL_ERROR, ChannelClosed
from provider_agent.transport.dialling import (
    DialError,
    DialOptions,
    in_words,
    is_loopback,
    network_error,
    server_host,
    tls_context,
)
from provider_agent.transport.liveness import PATIENCE, Backlog, Ear, Liveness, Patience, Verdict, Watch
from provider_agent.transport.tcp import HIGH_WATER_BYTES, is_reading, set_low_delay

__all__ = ["AcceptedSocket", "DialError", "DialOptions", "DialledSocket", "accept", "dial", "server_host"]

SUBPROTOCOL = "provider-agent.v3"
USER_AGENT = f"provider-agent/{__version__}"

CLOSE_TIMEOUT_S = 1.0
"""How long a goodbye may take; the libraries' own 10 s would be added to every lost connection."""

_MAX_REASON_BYTES = 123  # of a close frame, RFC 6455, 5.5
_PING, _PONG = b"\x89", b"\x8a"  # first byte of such a frame, RFC 6455, 5.2


# --- dialled -----------------------------------------------------------------------------


async def dial(url: str, options: DialOptions) -> "DialledSocket":
    """Open a WebSocket to a coordinator.

    Raises:
        DialError: it did not come about.
    """
    host = server_host(url)
    secure = urlsplit(url).scheme == "wss"
    context = tls_context(options) if secure else None
    try:
        connection = await _Connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            user_agent_header=USER_AGENT,
            proxy=None if is_loopback(host) else options.proxy or True,
            open_timeout=options.dial_timeout_s,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_MESSAGE_BYTES,
            write_limit=HIGH_WATER_BYTES,
            create_connection=_Connection,
            ssl=context,
        )
    except (OSError, InvalidURI, InvalidProxy, InvalidHandshake, ImportError) as error:
        raise _dial_error(error, urlsplit(url).netloc.rpartition("@")[2], options, secure=secure) from error
    assert isinstance(connection, _Connection)  # noqa: S101 - for mypy: `create` makes no other
    return DialledSocket(connection, options)


class _Connect(connect):
    """Does not follow redirects: the signature that comes next is bound to the host that was dialled."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Connection(ClientConnection):
    """The library's connection, telling of every byte that arrives.

    Attributes:
        liveness: to be told; None until the WebSocket is open.
        waits: how many messages had to wait until the peer took what came before.
    """

    liveness: Liveness | None = None
    waits: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        set_low_delay(transport)

    def data_received(self, data: bytes) -> None:
        if self.liveness is not None:
            self.liveness.heard_s = self.loop.time()
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self.recv_messages.close()  # the library ignores whatever else may come

    def connection_lost(self, exc: BaseException | None) -> None:
        # uvloop ends a write that an abort interrupts with CancelledError: whoever waits for it
        # was not cancelled, and must not think so.
        lost = ConnectionAbortedError() if isinstance(exc, asyncio.CancelledError) else exc
        super().connection_lost(cast("Exception | None", lost))

    async def receive_message(self) -> bytes:
        """`recv`, but that it ends with a close frame, and does not wait until the peer hangs up.

        It may do that late, or never, and then whatever is served for it would run on.
        """
        try:
            return await self.recv_messages.get(decode=False)
        except EOFError:
            if self.protocol.state is not State.CLOSING:
                return await self.recv(decode=False)  # which says how the connection was lost
        except WebSocketException as error:  # too many fragments
            self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, str(error))
            self.send_data()
        protocol = self.protocol
        raise ConnectionClosedError(protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent)

    async def send_text(self, message: bytes) -> None:
        """`send` for the ordinary case, at half its CPU: no context manager while nothing is amiss."""
        if self.protocol.state is not State.OPEN or self.transport.is_closing():
            await self.send(message, text=True)
            return
        self.protocol.send_text(message)
        super().send_data()
        if self.paused:
            self.waits += 1
            try:
                await self.drain()
            except OSError as error:  # lost while we waited
                raise self.close_exc from error

    def send_data(self) -> None:
        """What the library sends of itself; no pings nor pongs to a peer that takes nothing.

        It may ping as long as it likes, and would be answered into our memory.
        """
        if self.paused:
            self.protocol.writes = [
                frame for frame in self.protocol.writes if frame[:1] not in (_PING, _PONG)
            ]
        super().send_data()

    def backlog(self) -> Backlog | None:
        return Backlog(self.waits, self.transport.get_write_buffer_size()) if self.paused else None

    def ping_now(self) -> None:
        if self.protocol.state is State.OPEN and not self.transport.is_closing():
            self.protocol.send_ping(b"")
            self.send_data()


class DialledSocket:
    """The agent's end of a WebSocket."""

    def __init__(self, connection: _Connection, options: DialOptions) -> None:
        self._connection = connection
        self._patience = options.patience
        self._aborted: ChannelClosed | None = None
        self._watch = Watch(
            options.patience,
            is_reading=lambda: is_reading(connection.transport),
            backlog=connection.backlog,
            ping=connection.ping_now,
            give_up=self._give_up,
        )
        connection.liveness = self._watch.liveness

    async def receive(self) -> bytes:
        try:
            return await self._connection.receive_message()
        except ConnectionClosed as closed:
            raise self._ended(closed) from closed

    async def send(self, message: bytes) -> None:
        try:
            await self._connection.send_text(message)
        except ConnectionClosed as closed:
            raise self._ended(closed) from closed

    async def close(self, code: int, reason: str) -> None:
        self._watch.stop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close(code, _fitting(reason))
        except TimeoutError:  # its own limit does not hold while the peer takes no bytes
            self._connection.transport.abort()

    def abort(self, closed: ChannelClosed) -> None:
        self._watch.stop()
        self._aborted = self._aborted or closed
        self._connection.transport.abort()

    def _give_up(self, verdict: Verdict) -> None:
        self.abort(_given_up(verdict, self._patience))

    def _ended(self, closed: ConnectionClosed) -> ChannelClosed:
        self._watch.stop()
        if self._aborted is not None:
            return self._aborted.again()
        if closed.rcvd is not None and (closed.rcvd_then_sent or closed.sent is None):
            return ChannelClosed(closed.rcvd.code, closed.rcvd.reason)
        if closed.sent is not None:
            return ChannelClosed(closed.sent.code, closed.sent.reason, by_us=True)
        return ChannelClosed(None, in_words(closed.__cause__))


# --- accepted ----------------------------------------------------------------------------


async def accept(request: web.Request, patience: Patience = PATIENCE) -> "AcceptedSocket":
    """Turn a request into a WebSocket.

    Raises:
        aiohttp.web.HTTPBadRequest: the request does not ask for one; the server answers with it.
    """
    response: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
        timeout=CLOSE_TIMEOUT_S,
        autoping=False,
        protocols=(SUBPROTOCOL,) if "Sec-WebSocket-Protocol" in request.headers else (),
        compress=False,
        max_msg_size=MAX_MESSAGE_BYTES + 1,  # the library refuses a message of this very size
        writer_limit=HIGH_WATER_BYTES,
        decode_text=False,
    )
    await response.prepare(request)
    if request.transport is None:
        raise ChannelClosed(None, "lost during the handshake")
    set_low_delay(request.transport)
    return AcceptedSocket(response, request.protocol, request.transport, patience)


class AcceptedSocket:
    """The coordinator's end of a WebSocket.

    Pings and pongs go to the transport directly: the library's way may wait for a peer that does
    not read, and the reader, who answers pings, must not.

    Attributes:
        response: what the HTTP handler returns in the end.
    """

    def __init__(
        self,
        response: "web.WebSocketResponse[Literal[False]]",
        protocol: web.RequestHandler,
        transport: asyncio.Transport,
        patience: Patience,
    ) -> None:
        self.response = response
        self._protocol = protocol
        self._transport = transport
        self._patience = patience
        self._sends = 0
        self._ended: ChannelClosed | None = None
        self._watch = Watch(
            patience,
            is_reading=lambda: is_reading(transport),
            backlog=self._backlog,
            ping=lambda: self._control(_PING, b""),
            give_up=self._give_up,
        )
        transport.set_protocol(Ear(protocol, self._watch.liveness))

    async def receive(self) -> bytes:
        while True:
            message = await self.response.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    data: bytes = message.data
                    return data
                case WSMsgType.PING:
                    self._control(_PONG, message.data)
                case WSMsgType.PONG:
                    pass
                case _:
                    raise self._end(message)

    async def send(self, message: bytes) -> None:
        self._sends += 1
        try:
            await self.response.send_frame(message, WSMsgType.TEXT)
        except ConnectionError as error:
            raise (self._ended or ChannelClosed(None, in_words(error))).again() from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise (self._ended or ChannelClosed(None, "")).again() from None  # uvloop, as above

    async def close(self, code: int, reason: str) -> None:
        self._watch.stop()
        self._ended = self._ended or ChannelClosed(code, reason, by_us=True)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.response.close(code=code, message=_fitting(reason).encode())
        except (TimeoutError, ConnectionError):
            self._transport.abort()

    def _control(self, first_byte: bytes, payload: bytes) -> None:
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() < HIGH_WATER_BYTES:
            self._transport.write(first_byte + bytes([len(payload)]) + payload)

    def abort(self, closed: ChannelClosed) -> None:
        self._watch.stop()
        self._ended = self._ended or closed
        self._transport.abort()

    def _backlog(self) -> Backlog | None:
        if not self._protocol.writing_paused:
            return None
        return Backlog(self._sends, self._transport.get_write_buffer_size())

    def _give_up(self, verdict: Verdict) -> None:
        self.abort(_given_up(verdict, self._patience))

    def _end(self, message: Any) -> ChannelClosed:
        self._watch.stop()
        if self._ended is None:
            self._ended = self._end_of(message)
        return self._ended.again()

    def _end_of(self, message: Any) -> ChannelClosed:
        if message.type is WSMsgType.CLOSE:
            return ChannelClosed(message.data, message.extra or "")
        if isinstance(message.data, WebSocketError):  # too large, or no WebSocket frame
            return ChannelClosed(int(message.data.code), in_words(message.data), by_us=True)
        return ChannelClosed(None, "")


# --- shared ------------------------------------------------------------------------------


def _given_up(verdict: Verdict, patience: Patience) -> ChannelClosed:
    code = PROTOCOL_ERROR if verdict is Verdict.STALLED else None
    return ChannelClosed(code, patience.tell(verdict), by_us=True)


def _fitting(reason: str) -> str:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


def _dial_error(error: Exception, server: str, options: DialOptions, *, secure: bool) -> DialError:
    """What the library says, for the operator.

    1. The way to the server or to the proxy.
    2. An HTTP answer that is no WebSocket: a wrong path, a gateway, a coordinator that is busy.
    3. No HTTP at all. With TLS 1.3 a client certificate is judged only after our side holds the
       handshake for done, so a refusal looks like a server that hangs up.
    """
    match error:
        case InvalidURI():  # 1
            return DialError("url", f"{server} is no address of a WebSocket server: {error.msg}")
        case InvalidProxy() | ProxyError() | ImportError():
            return DialError("proxy", f"the proxy on the way to {server} cannot be used: {error}")
        case OSError():
            return network_error(error, server, options)
        case InvalidStatus():  # 2
            status, wish = error.response.status_code, error.response.headers.get("Retry-After", "")
            return DialError(
                "http",
                f"{server} answers with HTTP {status} instead of a WebSocket; check the path of the URL",
                http_status=status,
                retry_after_s=float(wish) if wish.isdecimal() else None,
            )
        case InvalidMessage() if secure and isinstance(error.__cause__, EOFError):  # 3
            return DialError(
                "client_certificate",
                f"{server} hung up after the TLS handshake, as servers do that want another client "
                "certificate (client_cert_file)",
            )
        case _:
            return DialError("http", f"{server} does not answer like a WebSocket server: {error}")
