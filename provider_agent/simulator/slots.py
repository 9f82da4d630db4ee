"""The places where answers are made; who comes when all are taken waits in order. Knows no request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooManyWait(Exception):
    """All slots are taken, and so are the places to wait in."""


class Slots:
    """As in llama-server: the surplus waits silently, and whoever leaves frees the place at once.

    Attributes:
        total: how many answers are made at the same time.
        most_waiting: how many may wait beside them; None for any number.
    """

    def __init__(self, total: int, most_waiting: int | None = None) -> None:
        self.total = total
        self.most_waiting = most_waiting
        self._free = asyncio.Semaphore(total)
        self._present: set[object] = set()
        self._working: set[object] = set()

    @property
    def busy(self) -> int:
        return len(self._working)

    @property
    def waiting(self) -> int:
        return len(self._present) - len(self._working)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot inside the block; wait for it, first come first served. Raises TooManyWait."""
        if self.most_waiting is not None and len(self._present) >= self.total + self.most_waiting:
            raise TooManyWait
        guest = object()
        self._present.add(guest)
        try:
            async with self._free:
                self._working.add(guest)
                try:
                    yield
                finally:
                    self._working.discard(guest)
        finally:
            self._present.discard(guest)
