"""Streaming HTTP to an engine, a fresh connection for each job; knows no engine family and no form of answer.

Engines drop kept-alive connections at will, and a closed connection is the one cancel that all of
them understand: so no connection is shared or reused, and leaving an answer closes its own.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from provider_agent import __version__
from provider_agent.backends import address, failures, lenient
from provider_agent.backends.base import (
    BackendError,
    BackendFailed,
    BackendUnreachable,
    Call,
    FirstByteTimeout,
    IdleTimeout,
    OutOfSockets,
    Usage,
)
from provider_agent.backends.request import prepare
from provider_agent.backends.stream import Scanner, scanner_for

MAX_ERROR_BYTES: Final = 64 * 1024
ERROR_TIMEOUT_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 2.0
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
_SUCCESS: Final = range(200, 300)
_OWN_SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_IN_ONE_PIECE_BYTES: Final = 256 * 1024
"""A longer request is written bit by bit, so that the other jobs go on meanwhile."""


@dataclass(frozen=True, slots=True)
class Page:
    """An engine's answer to a question about itself. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body's JSON, or None. One odd character in it must not cost the rest."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        try:
            return lenient.loads(self.body)
        except ValueError:
            return None

    def require(self) -> Any:
        """The JSON of a 2xx; raises the BackendError that anything else means."""
        if self.status == HTTPStatus.NOT_FOUND:  # of a page, not of a model
            raise BackendFailed("the engine has no such page; is its kind right?", http_status=self.status)
        if self.status not in _SUCCESS:
            raise failures.of_status(self.status, body=self.body, now=datetime.now(UTC))
        value = self.value
        if value is None:
            raise BackendFailed("the engine answered with something else than JSON")
        return value


class EngineHttp:
    """HTTP to all engines. An async context manager; to be entered before use."""

    def __init__(self, *, dial_timeout_s: float = 10.0) -> None:
        self._dial_timeout_s = dial_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str | None] = {}  # by base URL; the environment does not change

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._dial_timeout_s),
            headers={"User-Agent": f"provider-agent/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def open(self, base_url: str, call: Call, api_key: str | None = None) -> AsyncIterator["HttpReply"]:
        """Send a job's request; entering waits for the headers, leaving closes the connection.

        Raises BackendError on entering.
        """
        request = prepare(call)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        response = await self._send(
            base_url, call.endpoint, body=request.body, api_key=api_key, timeout_s=call.first_byte_timeout_s
        )
        reply: HttpReply | None = None
        try:
            if response.status not in _SUCCESS:
                raise await _refusal(response)
            scanner = scanner_for(
                response.headers.get("Content-Type", ""),
                drops_usage=request.drops_usage,
                choices=request.choices,
            )
            left_s = call.first_byte_timeout_s - (loop.time() - began_s)
            reply = HttpReply(response, scanner, first_byte_s=max(0.0, left_s), idle_s=call.idle_timeout_s)
            yield reply
        finally:
            if reply is not None:
                reply.stop_watching()
            await response.hang_up()

    async def ask(
        self,
        base_url: str,
        path: str,
        *,
        timeout_s: float,
        api_key: str | None = None,
        body: bytes | None = None,
    ) -> Page:
        """GET a page about the engine, or POST a question. Raises BackendUnreachable or BackendFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(base_url, path, body=body, api_key=api_key, timeout_s=timeout_s)
                try:
                    content = await _read_bounded(response, MAX_PAGE_BYTES)
                finally:
                    await response.hang_up()
        except TimeoutError:
            raise BackendUnreachable("the engine does not answer in time") from None
        except FirstByteTimeout as error:
            raise BackendUnreachable("the engine does not answer in time") from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Page(response.status, headers, content)

    async def _send(
        self, base_url: str, path: str, *, body: bytes | None, api_key: str | None, timeout_s: float
    ) -> "_Response":
        """Dial, send, wait for the headers. The one place where exceptions of the HTTP client become ours."""
        if self._session is None:
            raise RuntimeError("EngineHttp is used before it is entered")
        headers = {} if body is None else {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._session.request(
                    "GET" if body is None else "POST",
                    base_url + path,
                    data=body if body is None or len(body) <= _IN_ONE_PIECE_BYTES else BytesIO(body),
                    headers=headers,
                    proxy=self._proxy_for(base_url),
                    allow_redirects=False,  # a key must not follow to another host
                )
        except aiohttp.ConnectionTimeoutError:
            raise BackendUnreachable("the engine does not accept connections in time") from None
        except TimeoutError:
            raise FirstByteTimeout(f"the engine sent no byte for {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise _dial_error(error) from error
        assert isinstance(response, _Response)  # noqa: S101 - tells the type checker what the session makes
        return response

    def _proxy_for(self, base_url: str) -> str | None:
        """The environment's proxy, for engines on other machines only."""
        if base_url not in self._proxies:
            self._proxies[base_url] = _environment_proxy(base_url)
        return self._proxies[base_url]


class HttpReply:
    """A `Reply` (see `base.py`) as it comes from the socket. Iterate it once."""

    def __init__(
        self, response: "_Response", scanner: Scanner, *, first_byte_s: float, idle_s: float
    ) -> None:
        self.http_status = response.status
        # what is no UTF-8 there comes as lone surrogates, which no frame can hold
        self.content_type = response.headers.get("Content-Type", "").encode("ascii", "replace").decode()
        self._content = response.content
        self._scanner = scanner
        self._idle_s = idle_s
        self._silence = _Silence(response.content, first_byte_s)
        self._began = False
        self._is_over = False
        self._cut: Exception | None = None

    @property
    def usage(self) -> Usage:
        return self._scanner.usage

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        scanner, content, silence = self._scanner, self._content, self._silence
        while not (scanner.ended or self._cut):
            silence.starts()
            try:
                data = await content.readany()
            except (_EngineSilent, aiohttp.ClientError, OSError) as error:
                self._cut = error
                data = self._rescue()
            silence.ends()
            if not data:
                break
            if not self._began:
                self._began = True
                silence.limit(self._idle_s)
            relay = scanner.feed(data)
            if relay:
                return relay
        return self._last()

    def stop_watching(self) -> None:
        self._silence.stop()

    def _last(self) -> bytes:
        """The verdict, and what was held until then. An answer that was whole before a cut stays whole."""
        if self._is_over:
            raise StopAsyncIteration
        self._is_over = True
        relay = self._scanner.feed(self._rescue())
        try:
            relay += self._scanner.finish()
        except BackendError as verdict:
            raise self._silent_error() or verdict from self._cut
        if not relay:
            raise StopAsyncIteration
        return relay

    def _silent_error(self) -> BackendError | None:
        if not isinstance(self._cut, _EngineSilent):
            return None
        if not self._began:
            return FirstByteTimeout("the engine sent headers, but no byte of its answer in time")
        return IdleTimeout(f"the engine was silent for {self._idle_s:g} s in the middle of its answer")

    def _rescue(self) -> bytes:
        """What has arrived and was not read: the HTTP client gives its error precedence over it."""
        self._content.set_exception(None)  # type: ignore[arg-type]
        return self._content.read_nowait()


class _EngineSilent(Exception):
    """The engine sent nothing for as long as it may."""


class _Silence:
    """Ends a wait for bytes that takes too long: one timer that looks back, not one for each chunk.

    The time in which nobody waits, since the coordinator does not take more, is not the engine's.
    """

    def __init__(self, content: aiohttp.StreamReader, limit_s: float) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._now: Callable[[], float] = self._loop.time
        self._since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.limit(limit_s)

    def limit(self, limit_s: float) -> None:
        self.stop()
        self.limit_s = limit_s
        self._timer = self._loop.call_later(limit_s, self._look)

    def starts(self) -> None:
        self._since_s = self._now()

    def ends(self) -> None:
        self._since_s = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now_s = self._now()
        due_s = (now_s if self._since_s is None else self._since_s) + self.limit_s
        if due_s > now_s:
            self._timer = self._loop.call_at(due_s, self._look)
        else:
            self._content.set_exception(_EngineSilent())


class _Response(aiohttp.ClientResponse):
    """Remembers its connection, which the HTTP client forgets at the end of the body."""

    _transport: asyncio.Transport | None = None
    _gone: asyncio.Future[None] | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        if connection.protocol is not None:
            self._transport = connection.protocol.transport
            self._gone = connection.protocol.closed
        try:
            return await super().start(connection)
        except BaseException:
            await self.hang_up()
            raise

    async def hang_up(self) -> None:
        """Close the connection now, whatever is under way, and return when it is closed (or after 2 s)."""
        if self._transport is not None:
            self._transport.abort()
        self.close()
        if self._gone is None:
            return
        await asyncio.wait((self._gone,), timeout=CLOSE_TIMEOUT_S)
        if self._gone.done():
            self._gone.exception()  # how it was lost does not matter any more


async def _refusal(response: aiohttp.ClientResponse) -> BackendError:
    body = b""
    try:
        async with asyncio.timeout(ERROR_TIMEOUT_S):
            body = await _read_bounded(response, MAX_ERROR_BYTES)
    except (TimeoutError, BackendError):
        pass  # the status says enough
    retry_after = response.headers.get("Retry-After", "")
    return failures.of_status(response.status, body=body, retry_after=retry_after, now=datetime.now(UTC))


async def _read_bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The body, cut off at the limit."""
    body = bytearray()
    try:
        while len(body) < limit_bytes and (data := await response.content.readany()):
            body += data
    except (aiohttp.ClientError, OSError) as error:
        raise BackendFailed("the engine's answer broke off") from error
    return bytes(body[:limit_bytes])


def _dial_error(error: Exception) -> BackendError:  # noqa: PLR0911 - one case each
    """By what failed, the most special first; the words are ours, since theirs hold the address."""
    match error:
        case OSError(errno=number) if number in _OWN_SHORTAGE:
            return OutOfSockets("this agent has no connection left for the engine")
        case aiohttp.ClientConnectorDNSError() | UnicodeError():  # a name that cannot even be asked for
            return BackendUnreachable("the engine's host name is not known")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return BackendUnreachable("the engine's TLS certificate is not trusted, or it speaks no TLS")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return BackendUnreachable("the proxy to the engine cannot be used")
        case aiohttp.ClientConnectorError():
            return BackendUnreachable("the engine does not accept connections")
        case aiohttp.ServerDisconnectedError() | OSError():
            return BackendFailed("the engine closed the connection without an answer")
        case _:
            return BackendFailed("the engine's answer is not HTTP")


def _environment_proxy(base_url: str) -> str | None:
    place = address.place_of(base_url)
    if place.is_loopback or proxy_bypass(place.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(urlsplit(base_url).scheme) or proxies.get("all")
    return proxy if proxy and proxy.startswith(("http://", "https://")) else None
