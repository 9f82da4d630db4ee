"""The places where answers are made; who comes when all are taken waits in order. Knows no request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """As in llama-server: the surplus waits silently, and whoever leaves frees the place at once.

    Attributes:
        total: how many answers are made at the same time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
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
        """Hold a slot inside the block; wait for it, first come first served."""
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
