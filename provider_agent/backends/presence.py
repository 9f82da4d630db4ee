"""Connections on which nothing is ever asked; knows no request.

As long as one lives, the process at its other end is the one that it was.
"""

import asyncio

from provider_agent.backends.wire import Wire


class Presence:
    """Owns one wire for each engine that is to be known again."""

    def __init__(self) -> None:
        self._held: dict[str, Wire] = {}

    def hold(self, base_url: str, wire: Wire) -> None:
        """From now on this one, and no other, tells of that engine."""
        before = self._held.pop(base_url, None)
        if before is not None:
            before.abort()
        self._held[base_url] = wire
        wire.rest(lambda spoiled: self._forget(base_url, spoiled))

    def holds(self, base_url: str) -> bool:
        """The engine is the same process as at the last `hold`."""
        wire = self._held.get(base_url)
        return wire is not None and not wire.has_news

    async def close(self) -> None:
        wires = tuple(self._held.values())
        self._held.clear()
        await asyncio.gather(*(wire.hang_up() for wire in wires))

    def _forget(self, base_url: str, spoiled: Wire) -> None:
        if self._held.get(base_url) is spoiled:
            del self._held[base_url]
