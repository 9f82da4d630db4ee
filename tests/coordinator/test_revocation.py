"""Agents that are revoked while they are connected."""

import asyncio

import pytest

from provider_agent.coordinator.revocation import CHECK_EVERY_S, expel_revoked
from provider_agent.coordinator.store.base import Store
from provider_agent.coordinator.store.memory import MemoryStore
from tests.fakes.stores import BrokenStore


class Turns:
    """A `sleep` that comes back at once, a set number of times."""

    def __init__(self, turns: int) -> None:
        self.left = turns
        self.slept_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if not self.left:
            raise asyncio.CancelledError
        self.left -= 1


class Sessions:
    """Notes which sessions were to be ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int, str]] = []

    def end(self, provider_id: str, code: int, reason: str) -> bool:
        self.ended.append((provider_id, code, reason))
        return True


async def watch(store: Store, turns: int = 1) -> tuple[Sessions, Turns]:
    """Let the watch look so many times."""
    sessions, sleep = Sessions(), Turns(turns)
    with pytest.raises(asyncio.CancelledError):
        await expel_revoked(store, sessions.end, sleep=sleep)
    return sessions, sleep


async def test_a_revoked_agent_is_expelled_within_two_seconds() -> None:
    """Field note 59: with 4001, so that it stops for good; nobody else is touched."""
    store = MemoryStore()
    revoked = await store.enroll(b"a" * 32, "", 0)
    await store.enroll(b"b" * 32, "", 0)
    await store.revoke_provider(revoked.provider_id, 1)

    sessions, sleep = await watch(store)

    assert sessions.ended == [(revoked.provider_id, 4001, "revoked")]
    assert sleep.slept_s[0] == CHECK_EVERY_S == 2.0


async def test_a_store_that_fails_is_asked_again() -> None:
    """A full disk does not switch revocation off."""
    store = BrokenStore()
    agent = await store.enroll(b"a" * 32, "", 0)
    await store.revoke_provider(agent.provider_id, 1)

    assert (await watch(store, turns=2))[0].ended == []
    store.broken = False
    assert len((await watch(store))[0].ended) == 1
