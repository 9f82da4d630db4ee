"""Takers of an engine's answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from provider_agent.backends.base import Reply


class Taker:
    """Keeps the pieces that it is given, and tells when they come."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._came = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.pieces.append(data)
        self._came.set()

    @property
    def taken(self) -> bytes:
        return b"".join(self.pieces)

    async def has_begun(self) -> None:
        """Wait for the first piece."""
        while not self.pieces:
            self._came.clear()
            await self._came.wait()

    async def has(self, data: bytes) -> None:
        """Wait until all of these bytes have come, and no others."""
        while len(self.taken) < len(data):
            self._came.clear()
            await self._came.wait()
        assert self.taken == data


class SlowTaker(Taker):
    """Pauses the answer at each piece."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    def __call__(self, data: bytes) -> None:
        self._reply.pause()
        super().__call__(data)


class BrokenTaker(Taker):
    """Has a defect."""

    def __call__(self, data: bytes) -> None:
        raise KeyError("a defect")


@asynccontextmanager
async def relaying(reply: Reply, taker: Taker) -> AsyncIterator[asyncio.Task[None]]:
    """The answer is relayed meanwhile, and no further."""
    job = asyncio.get_running_loop().create_task(reply.relay(taker))
    try:
        yield job
    finally:
        job.cancel()
        await asyncio.wait((job,))


async def whole(reply: Reply) -> bytes:
    """All that is relayed, to the end."""
    taker = Taker()
    await reply.relay(taker)
    return taker.taken


async def take(reply: Reply, data: bytes) -> None:
    """So much of the answer, and no more."""
    taker = Taker()
    async with relaying(reply, taker):
        await taker.has(data)
