"""The first of a host's addresses that accepts a connection; knows no protocol above TCP."""

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

HEAD_START_S: Final = 0.25
"""Of an address before the next one is tried beside it (RFC 8305, 5)."""


class Address(NamedTuple):
    """One of `getaddrinfo`'s, as far as it is needed."""

    family: int
    sockaddr: tuple[Any, ...]


async def addresses_of(host: str, port: int) -> tuple[Address, ...]:
    """Those of a name, the families in turn (RFC 8305, 4). Raises OSError (gaierror) and UnicodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each.family != addresses[0].family]
    return tuple(each for each in chain.from_iterable(zip_longest(first, others)) if each is not None)


class Race:
    """Begins with the first address; the next one follows when that fails, or after its head start."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._tries: list[asyncio.Task[None]] = []
        self._won: tuple[Address, socket.socket] | None = None
        self._errors: list[OSError] = []

    async def run(self) -> tuple[Address, socket.socket]:
        """The winner, connected. Raises the OSError that came first when all fail."""
        try:
            async with asyncio.TaskGroup() as group:
                for address in self._addresses:
                    attempt = group.create_task(self._try(address))
                    self._tries.append(attempt)
                    await asyncio.wait((attempt,), timeout=HEAD_START_S)
                    if self._won is not None:
                        break
        except BaseException:
            if self._won is not None:
                self._won[1].close()
            raise
        if self._won is None:
            raise self._errors[0]
        return self._won

    async def _try(self, address: Address) -> None:
        try:
            connected = await _connect(address)
        except OSError as error:
            self._errors.append(error)
            return
        if self._won is not None:
            connected.close()
            return
        self._won = address, connected
        for each in self._tries:
            if each is not asyncio.current_task():
                each.cancel()


async def _connect(address: Address) -> socket.socket:
    connected = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, address.sockaddr)
    except BaseException:
        connected.close()
        raise
    return connected
