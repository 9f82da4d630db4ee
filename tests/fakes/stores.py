"""Stores in trouble, and one that counts what it is asked."""

import asyncio

from provider_agent.coordinator.store.base import ClientKey, Provider, StoreError
from provider_agent.coordinator.store.memory import MemoryStore
from tests.fakes.clocks import ManualClock


class CountingStore(MemoryStore):
    """Notes how often a key was looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.key_questions = 0

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        self.key_questions += 1
        return await super().key_of(key_digest)


class SlowStore(CountingStore):
    """Takes its time for each key, by the clock of the test."""

    def __init__(self, clock: ManualClock, takes_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._takes_s = takes_s

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        key = await super().key_of(key_digest)
        self._clock.advance(self._takes_s)
        return key


class BrokenStore(MemoryStore):
    """Raises while `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the disk is gone")

    async def ping(self) -> None:
        self._check()

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        self._check()
        return await super().key_of(key_digest)

    async def provider_of(self, public_key: bytes) -> Provider | None:
        self._check()
        return await super().provider_of(public_key)

    async def revoked_provider_ids(self) -> list[str]:
        self._check()
        return await super().revoked_provider_ids()


class StuckStore(MemoryStore):
    """Never answers a ping."""

    async def ping(self) -> None:
        await asyncio.Event().wait()
