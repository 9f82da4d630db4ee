"""Who may ask."""

import pytest

from provider_agent.coordinator.admission import DEV_CLIENT, REMEMBER_S, Admission, Client
from provider_agent.coordinator.store.base import StoreError, digest
from provider_agent.coordinator.store.memory import MemoryStore
from tests.fakes.clocks import ManualClock
from tests.fakes.stores import BrokenStore, CountingStore, SlowStore


async def test_a_known_key_is_its_client() -> None:
    """The ordinary case."""
    store = MemoryStore()
    await store.add_key(digest("sk-pa-1"), "alice", 0)

    assert await Admission(store).check("Bearer sk-pa-1") == Client("alice")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "sk-pa-1", "Basic sk-pa-1", "Bearer sk-pa-2", "Bearer \udcff"],
)
async def test_whatever_else_is_sent_is_refused(authorization: str | None) -> None:
    """No error, no client."""
    store = MemoryStore()
    await store.add_key(digest("sk-pa-1"), "alice", 0)

    assert await Admission(store).check(authorization) is None


@pytest.mark.parametrize("authorization", ["bearer sk-pa-1", "BEARER  sk-pa-1 "])
async def test_the_scheme_is_read_as_http_says(authorization: str) -> None:
    """Case does not matter, nor does space (RFC 9110)."""
    store = MemoryStore()
    await store.add_key(digest("sk-pa-1"), "alice", 0)

    assert await Admission(store).check(authorization) == Client("alice")


async def test_in_dev_mode_everybody_may_ask() -> None:
    """With any key or none."""
    assert await Admission(MemoryStore(), dev=True).check(None) == DEV_CLIENT


async def test_a_new_key_works_at_once() -> None:
    """That a key was not found is never remembered."""
    store = MemoryStore()
    admission = Admission(store)
    assert await admission.check("Bearer sk-pa-1") is None

    await store.add_key(digest("sk-pa-1"), "alice", 0)

    assert await admission.check("Bearer sk-pa-1") == Client("alice")


async def test_a_key_in_use_is_looked_up_every_other_second() -> None:
    """Not with each request."""
    store, clock = CountingStore(), ManualClock()
    await store.add_key(digest("sk-pa-1"), "alice", 0)
    admission = Admission(store, clock=clock)

    for _ in range(100):
        await admission.check("Bearer sk-pa-1")
    assert store.key_questions == 1

    clock.advance(REMEMBER_S)
    await admission.check("Bearer sk-pa-1")
    assert store.key_questions == 2


async def test_a_revoked_key_is_refused_within_two_seconds() -> None:
    """And is forgotten."""
    store, clock = MemoryStore(), ManualClock()
    await store.add_key(digest("sk-pa-1"), "alice", 0)
    admission = Admission(store, clock=clock)
    await admission.check("Bearer sk-pa-1")

    await store.revoke_key("alice", 0)
    clock.advance(2.0)

    assert await admission.check("Bearer sk-pa-1") is None


async def test_an_answer_of_the_store_is_as_old_as_its_question() -> None:
    """Else a key that is revoked meanwhile would be taken for longer."""
    clock = ManualClock()
    store = SlowStore(clock, takes_s=REMEMBER_S)
    await store.add_key(digest("sk-pa-1"), "alice", 0)
    admission = Admission(store, clock=clock)

    await admission.check("Bearer sk-pa-1")
    await admission.check("Bearer sk-pa-1")

    assert store.key_questions == 2


async def test_a_store_that_fails_admits_nobody() -> None:
    """It is not the client's fault either: the error goes up, and is no refusal."""
    with pytest.raises(StoreError):
        await Admission(BrokenStore()).check("Bearer sk-pa-1")
