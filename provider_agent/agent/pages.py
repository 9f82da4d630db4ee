"""A small HTTP/1.1 server for pages that are made on the spot; knows no page. GET and HEAD, no bodies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

REQUEST_BYTES = 16 * 1024
"""The largest request, head and body: nobody has anything to tell us."""

SILENCE_S = 75.0
"""How long a connection may stay silent: longer than the usual interval of those that come to look."""

MOST_CONNECTIONS = 64
"""More are closed at once: whoever opens them must not use up the sockets that jobs need."""

UNREAD_BYTES = 1024 * 1024
"""How much of our answers may lie unread before we give the reader up."""

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    body: bytes
    content_type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Page]]
"""Path -> how to make the page of this moment."""


@asynccontextmanager
async def serving(
    pages: Pages, host: str, port: int, *, silence_s: float = SILENCE_S
) -> AsyncIterator[tuple[str, int]]:
    """Serve the pages while entered; gives the address. Raises OSError when it cannot be had."""
    open_connections: set[_Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(pages, open_connections, silence_s), host, port)
    try:
        bound_host, bound_port, *_ = server.sockets[0].getsockname()
        yield bound_host, bound_port
    finally:
        server.close()
        for connection in tuple(open_connections):
            connection.abort()
        await server.wait_closed()


class _Connection(asyncio.Protocol):
    """One connection; the parser calls its `on_…` methods."""

    def __init__(self, pages: Pages, open_connections: set["_Connection"], silence_s: float) -> None:
        self._pages = pages
        self._silence_s = silence_s
        self._open = open_connections
        self._parser = HttpRequestParser(self)
        self._target = b""
        self._unanswered_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._silence: asyncio.TimerHandle | None = None

    # --- the transport's calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        if len(self._open) > MOST_CONNECTIONS:
            self.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface
        self._transport = None
        self._open.discard(self)
        if self._silence is not None:
            self._silence.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer what is complete.

        1. More came than any request of ours has.
        2. It is no HTTP.
        3. It asks for another protocol: our answer to it is out, and what follows is not for us.
        """
        self._unanswered_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:  # 3
            self.close()
        except HttpParserError:  # 2
            self._refuse(HTTPStatus.BAD_REQUEST)
        if self._unanswered_bytes > REQUEST_BYTES:  # 1
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    # --- the parser's calls ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target = b""

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_message_complete(self) -> None:
        self._unanswered_bytes = 0
        method = self._parser.get_method()
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if method in (b"GET", b"HEAD"):
            self._answer(self._page(), keep_alive=keep_alive, without_body=method == b"HEAD")
        else:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n")

    # --- answering ------------------------------------------------------------------------

    def close(self) -> None:
        """After what was answered."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _page(self) -> Page:
        make = self._pages.get(self._target.partition(b"?")[0].decode("latin-1"))
        return _plain(HTTPStatus.NOT_FOUND) if make is None else make()

    def _refuse(self, status: HTTPStatus, headers: str = "") -> None:
        self._answer(_plain(status), headers, keep_alive=False)

    def _answer(self, page: Page, headers: str = "", *, keep_alive: bool, without_body: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {page.status} {page.status.phrase}\r\n"
            f"Content-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n"
            f"Cache-Control: no-store\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n"
            f"{headers}\r\n"
        )
        self._transport.write(head.encode("latin-1") + (b"" if without_body else page.body))
        if self._transport.get_write_buffer_size() > UNREAD_BYTES:
            self.abort()
        elif keep_alive:
            self._watch()
        else:
            self.close()

    def _watch(self) -> None:
        """Give the connection a new span of silence."""
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(self._silence_s, self.abort)


def _plain(status: HTTPStatus) -> Page:
    return Page(f"{status} {status.phrase}\n".encode(), status=status)
