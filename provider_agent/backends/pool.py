"""Connections that wait a moment for the next job; knows no request.

Engines drop kept connections at will, whatever they announce: so a wire rests for 2 s at most, and one
on which anything comes meanwhile is thrown away.
"""

import asyncio
from typing import Final

from provider_agent.backends.wire import Wire

MAX_REST_S: Final = 2.0
MAX_RESTING: Final = 64
"""For one engine and key."""

END_MARK_S: Final = 0.1
"""The end of the HTTP body often comes a moment after the end mark of the answer in it."""

Key = tuple[str, str | None]
"""Base URL and key of an engine: nobody else's connection is used."""


class Pool:
    """Owns the wires that no job holds."""

    def __init__(self, *, rest_s: float = MAX_REST_S, end_mark_s: float = END_MARK_S) -> None:
        self._rest_s = rest_s
        self._end_mark_s = end_mark_s
        self._loop = asyncio.get_running_loop()
        self._resting: dict[Key, dict[Wire, float]] = {}  # since when, the longest first
        self._ending: set[Wire] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, key: Key) -> Wire | None:
        """A wire that rests, the last one first; None if there is none that is fit."""
        resting = self._resting.get(key, {})
        while resting:
            wire, since_s = resting.popitem()
            if self._loop.time() - since_s < self._rest_s and not wire.has_news:
                return wire
            wire.abort()
        return None

    def keep(self, key: Key, wire: Wire) -> bool:
        """Take in the wire of a job whose answer was whole; False if it is of no further use."""
        if wire.is_reusable:
            self._rest(key, wire)
        elif wire.may_become_reusable:
            self._await_end(key, wire)
        else:
            return False
        return True

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        wires = [wire for resting in self._resting.values() for wire in resting]
        wires.extend(self._ending)
        self._resting.clear()
        await asyncio.gather(*(wire.hang_up() for wire in wires))

    def _rest(self, key: Key, wire: Wire) -> None:
        resting = self._resting.setdefault(key, {})
        if len(resting) >= MAX_RESTING:
            oldest = next(iter(resting))
            del resting[oldest]
            oldest.abort()
        resting[wire] = self._loop.time()
        wire.rest(lambda spoiled: self._forget(key, spoiled))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._rest_s, self._drop_the_old)

    def _forget(self, key: Key, wire: Wire) -> None:
        self._resting.get(key, {}).pop(wire, None)

    def _await_end(self, key: Key, wire: Wire) -> None:
        """The answer is whole, but not yet its body: it is in a moment, or the wire goes."""
        limit = self._loop.call_later(self._end_mark_s, wire.abort)
        self._ending.add(wire)

        def end(cut: Exception | None) -> None:
            limit.cancel()
            self._ending.discard(wire)
            if cut is None and wire.is_reusable:
                self._rest(key, wire)
            else:
                wire.abort()

        wire.read(_drop, end)

    def _drop_the_old(self) -> None:
        now_s = self._loop.time()
        for key, resting in list(self._resting.items()):
            for wire in [wire for wire, since_s in resting.items() if now_s - since_s >= self._rest_s]:
                del resting[wire]
                wire.abort()
            if not resting:
                del self._resting[key]
        since = [next(iter(resting.values())) for resting in self._resting.values()]
        self._sweep = self._loop.call_at(min(since) + self._rest_s, self._drop_the_old) if since else None


def _drop(_data: bytes) -> None:
    """Nothing that follows an end mark belongs to the answer."""
