"""The store in memory, beyond the contract of all stores."""

from provider_agent.coordinator.store.base import digest
from provider_agent.coordinator.store.memory import MemoryStore


async def test_two_stores_share_nothing() -> None:
    """Each `--dev` run starts empty."""
    await MemoryStore().add_key(digest("sk-1"), "alice", 1)

    assert await MemoryStore().keys() == []
