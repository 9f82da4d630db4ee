"""The agent's end of a WebSocket: dials, and hands the open connection over; knows no frame of ours.

`websockets` looks after address, proxy, TLS and handshake. Whatever it raises leaves as `DialError`.
"""

from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.protocol import State
from websockets.typing import Subprotocol

from provider_agent import __version__
from provider_agent.transport.dialling import (
    DialError,
    DialOptions,
    is_loopback,
    network_error,
    server_host,
    tls_context,
)
from provider_agent.transport.liveness import Patience
from provider_agent.transport.websocket import SUBPROTOCOL, Side, WebSocketConnection

__all__ = ["DialError", "DialOptions", "dial", "server_host"]

USER_AGENT = f"provider-agent/{__version__}"

_BLANK_LINE = b"\r\n\r\n"


async def dial(url: str, options: DialOptions) -> WebSocketConnection:
    """Open a WebSocket to a coordinator.

    Raises:
        DialError: it did not come about.
    """
    host = server_host(url)
    secure = urlsplit(url).scheme == "wss"
    context = tls_context(options) if secure else None
    try:
        handshake = await _Connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            user_agent_header=USER_AGENT,
            proxy=None if is_loopback(host) else options.proxy or True,
            open_timeout=options.dial_timeout_s,
            ping_interval=None,
            create_connection=cast("type[ClientConnection]", partial(_Handshake, options.patience)),
            ssl=context,
        )
    except (OSError, InvalidURI, InvalidProxy, InvalidHandshake, ImportError) as error:
        raise _dial_error(error, urlsplit(url).netloc.rpartition("@")[2], options, secure=secure) from error
    return cast("_Handshake", handshake).opened()


class _Connect(connect):
    """Does not follow redirects: the signature that comes next is bound to the host that was dialled."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Handshake(ClientConnection):
    """The library's connection, for as long as it is not open: then ours takes the transport over.

    At once, and with whatever came right behind the answer: the first messages, perhaps the end.
    """

    def __init__(self, patience: Patience, protocol: ClientProtocol, **settings: Any) -> None:
        super().__init__(protocol, **settings)
        self._patience = patience
        self._opened: WebSocketConnection | None = None
        self._last = b""  # what arrived last: a blank line may be split

    def data_received(self, data: bytes) -> None:
        """Pass an HTTP head to the library, and the rest only if that was not the head that opens."""
        end = (self._last + data).find(_BLANK_LINE)
        cut = len(data) if end < 0 else end + len(_BLANK_LINE) - len(self._last)
        self._last = (self._last + data)[1 - len(_BLANK_LINE) :]
        super().data_received(data[:cut])
        if self.protocol.state is State.OPEN:
            self._opened = WebSocketConnection(self.transport, Side.CLIENT, self._patience, data[cut:])
        elif cut < len(data):
            super().data_received(data[cut:])

    def opened(self) -> WebSocketConnection:
        assert self._opened is not None  # noqa: S101 - for mypy: the library waits for the state OPEN
        return self._opened


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
