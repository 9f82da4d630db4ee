"""Connections to engines: TCP, TLS, the tunnel through a proxy, and what each failure means; knows no job."""

import asyncio
import errno
import socket
import ssl
from http import HTTPStatus
from typing import Final

from provider_agent.backends.base import BackendError, BackendUnreachable, FirstByteTimeout, OutOfSockets
from provider_agent.backends.framing import NotHttp
from provider_agent.backends.race import Address, Race, addresses_of
from provider_agent.backends.target import Target, is_address
from provider_agent.backends.wire import EngineSilent, Lost, ReadBuffer, Wire

ADDRESSES_FRESH_S: Final = 10.0
"""For so long a name is not asked for again."""

_OWN_SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ProxyRefused(Exception):
    """The proxy makes no tunnel."""


class Dialler:
    """Makes wires. All of them read into one buffer."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._buffer = ReadBuffer()
        self._context: ssl.SSLContext | None = None
        self._addresses: dict[tuple[str, int], tuple[float, tuple[Address, ...]]] = {}

    async def dial(self, target: Target, *, within_s: float) -> Wire:
        """A wire to the engine, all handshakes done.

        Raises BackendUnreachable, OutOfSockets, FirstByteTimeout (there was less time than a dial may take).
        """
        limit_s = min(self._timeout_s, within_s)
        try:
            async with asyncio.timeout(limit_s):
                return await self._dial(target)
        except TimeoutError:
            if limit_s < self._timeout_s:
                raise FirstByteTimeout("the engine sent no byte in time") from None
            raise BackendUnreachable("the engine does not accept connections in time") from None
        except (OSError, UnicodeError, ssl.CertificateError, ProxyRefused) as error:
            raise _meaning(error, goes_by_proxy=target.proxy is not None) from error

    async def _dial(self, target: Target) -> Wire:
        first = target.proxy or target
        wire = await self._connect(first.host, first.port, is_tls=first.is_tls)
        if target.proxy is None or not target.is_tls:
            return wire
        try:
            await _make_tunnel(wire, target)
            return await self._secure(wire, target.host)
        except BaseException:
            wire.abort()
            raise

    async def _connect(self, host: str, port: int, *, is_tls: bool) -> Wire:
        connect = self._loop.create_connection
        tls = await self._tls() if is_tls else None
        name = host if is_tls else None
        if is_address(host):
            _, wire = await connect(self._wire, host, port, ssl=tls, server_hostname=name)
            return wire
        addresses = await self._resolve(host, port)
        won, connected = await Race(addresses).run()
        if won != addresses[0] and (host, port) in self._addresses:  # the next dial begins with it
            until_s, _ = self._addresses[host, port]
            others = (each for each in addresses if each != won)
            self._addresses[host, port] = until_s, (won, *others)
        _, wire = await connect(self._wire, sock=connected, ssl=tls, server_hostname=name)
        return wire

    async def _resolve(self, host: str, port: int) -> tuple[Address, ...]:
        now_s = self._loop.time()
        until_s, addresses = self._addresses.get((host, port), (0.0, ()))
        if until_s <= now_s:
            addresses = await addresses_of(host, port)
            self._addresses = {key: known for key, known in self._addresses.items() if known[0] > now_s}
            self._addresses[host, port] = now_s + ADDRESSES_FRESH_S, addresses
        return addresses

    async def _secure(self, wire: Wire, host: str) -> Wire:
        """TLS within the wire: another wire."""
        inner, tls = self._wire(), await self._tls()
        transport = None
        if not wire.transport.is_closing():
            transport = await self._loop.start_tls(wire.transport, inner, tls, server_hostname=host)
        if transport is None:  # it was lost just then
            raise ConnectionAbortedError
        inner.connection_made(transport)
        return inner

    async def _tls(self) -> ssl.SSLContext:
        """Verifies, with what the system trusts."""
        if self._context is None:
            self._context = await self._loop.run_in_executor(None, ssl.create_default_context)
        return self._context

    def _wire(self) -> Wire:
        return Wire(self._buffer)


async def _make_tunnel(wire: Wire, target: Target) -> None:
    wire.send(target.tunnel_head(), b"")
    try:
        head = await wire.answered()
    except (Lost, NotHttp, EngineSilent) as error:
        raise ProxyRefused from error
    if head.status != HTTPStatus.OK:
        raise ProxyRefused(f"status {head.status}")


def _meaning(error: Exception, *, goes_by_proxy: bool) -> BackendError:
    """By what failed, the most special first; the words are ours, since theirs hold the address."""
    match error:
        case OSError(errno=number) if number in _OWN_SHORTAGE or _is_short(error):
            return OutOfSockets("this agent has no connection left for the engine")
        case ProxyRefused():
            return BackendUnreachable("the proxy to the engine cannot be used")
        case ssl.SSLError() | ssl.CertificateError():
            return BackendUnreachable("the engine's TLS certificate is not trusted, or it speaks no TLS")
        case _ if goes_by_proxy:
            return BackendUnreachable("the proxy to the engine cannot be used")
        case socket.gaierror() | UnicodeError():  # a name that cannot even be asked for
            return BackendUnreachable("the engine's host name is not known")
        case _:
            return BackendUnreachable("the engine does not accept connections")


def _is_short(error: OSError) -> bool:
    """A name that cannot be looked up, since there is no socket or file left to do it with."""
    if not isinstance(error, socket.gaierror):
        return False
    try:
        socket.socket().close()
    except OSError:
        return True
    return False
