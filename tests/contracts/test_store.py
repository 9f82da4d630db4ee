"""What every store answers, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent.coordinator.store.base import NameTaken, Provider, Refusal, Store, digest
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.coordinator.store.sqlite import open_sqlite

NOW_S = 1_000_000
LATER_S = NOW_S + 3600
CODE = digest("pa-enroll-one")
KEY_A = b"a" * 32
KEY_B = b"b" * 32


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each implementation in turn, empty."""
    opened: Store = MemoryStore() if request.param == "memory" else await open_sqlite(tmp_path)
    yield opened
    await opened.close()


async def test_a_code_enrols_the_key_that_redeems_it(store: Store) -> None:
    """The ordinary case: the code's name becomes the provider's, and the list says who used it."""
    await store.add_token(CODE, "den", NOW_S, LATER_S)

    provider = await store.redeem(CODE, KEY_A, NOW_S + 5)

    assert isinstance(provider, Provider)
    assert (provider.public_key, provider.name, provider.enrolled_at_s) == (KEY_A, "den", NOW_S + 5)
    assert await store.provider_of(KEY_A) == provider
    assert [token.provider_id for token in await store.tokens()] == [provider.provider_id]


async def test_a_code_works_once(store: Store) -> None:
    """Field note 48: a code that is shown again by somebody else is refused."""
    await store.add_token(CODE, "", NOW_S, LATER_S)
    await store.redeem(CODE, KEY_A, NOW_S)

    assert await store.redeem(CODE, KEY_B, NOW_S) is Refusal.USED
    assert await store.provider_of(KEY_B) is None


async def test_of_many_at_once_one_redeems_a_code(store: Store) -> None:
    """Using a code up and enrolling are one step."""
    await store.add_token(CODE, "", NOW_S, LATER_S)

    answers = await asyncio.gather(*(store.redeem(CODE, bytes([n]) * 32, NOW_S) for n in range(8)))

    assert sum(isinstance(answer, Provider) for answer in answers) == 1
    assert answers.count(Refusal.USED) == 7
    assert len(await store.providers()) == 1


async def test_a_key_that_is_enrolled_leaves_a_code_unused(store: Store) -> None:
    """An agent whose first auth_ok was lost shows its code again; a second code is not wasted on it."""
    await store.add_token(CODE, "", NOW_S, LATER_S)
    first = await store.enroll(KEY_A, "", NOW_S)

    assert await store.redeem(CODE, KEY_A, NOW_S) == first
    assert isinstance(await store.redeem(CODE, KEY_B, NOW_S), Provider)


async def test_an_expired_code_enrols_nobody(store: Store) -> None:
    """It is good until its time, not at it."""
    await store.add_token(CODE, "", NOW_S, LATER_S)

    assert await store.redeem(CODE, KEY_A, LATER_S) is Refusal.EXPIRED
    assert isinstance(await store.redeem(CODE, KEY_A, LATER_S - 1), Provider)


async def test_an_unknown_code_enrols_nobody(store: Store) -> None:
    """Not even in an empty store."""
    assert await store.redeem(CODE, KEY_A, NOW_S) is Refusal.UNKNOWN


async def test_a_revoked_code_enrols_nobody(store: Store) -> None:
    """It is revoked by the id that the list shows, once."""
    token = await store.add_token(CODE, "", NOW_S, LATER_S)

    assert await store.revoke_token(token.token_id, NOW_S)
    assert not await store.revoke_token(token.token_id, NOW_S)
    assert await store.redeem(CODE, KEY_A, NOW_S) is Refusal.REVOKED


async def test_a_used_code_cannot_be_revoked(store: Store) -> None:
    """Whoever wants the agent gone must revoke the provider."""
    token = await store.add_token(CODE, "", NOW_S, LATER_S)
    await store.redeem(CODE, KEY_A, NOW_S)

    assert not await store.revoke_token(token.token_id, NOW_S)


async def test_enrolling_twice_gives_the_same_provider(store: Store) -> None:
    """The id follows from the key, the name stays the first one."""
    first = await store.enroll(KEY_A, "first", NOW_S)

    assert await store.enroll(KEY_A, "second", LATER_S) == first
    assert await store.providers() == [first]


async def test_a_revoked_provider_stays_known_as_revoked(store: Store) -> None:
    """Otherwise it could enrol again with another code."""
    await store.add_token(CODE, "", NOW_S, LATER_S)
    provider = await store.enroll(KEY_A, "", NOW_S)

    assert await store.revoke_provider(provider.provider_id, LATER_S)
    assert not await store.revoke_provider(provider.provider_id, LATER_S)
    assert not await store.revoke_provider("p-unknown", LATER_S)
    known = await store.redeem(CODE, KEY_A, NOW_S)
    assert isinstance(known, Provider)
    assert known.revoked_at_s == LATER_S
    assert await store.revoked_provider_ids() == [provider.provider_id]


async def test_a_client_key_is_found_by_its_hash_until_it_is_revoked(store: Store) -> None:
    """By name or by id."""
    alice = await store.add_key(digest("sk-1"), "alice", NOW_S)
    bob = await store.add_key(digest("sk-2"), "bob", NOW_S)

    assert await store.key_of(digest("sk-1")) == alice
    assert await store.key_of(digest("sk-3")) is None
    assert await store.revoke_key("alice", NOW_S)
    assert await store.revoke_key(bob.key_id, NOW_S)
    assert not await store.revoke_key("bob", NOW_S)
    assert await store.key_of(digest("sk-1")) is None
    assert [(key.name, key.revoked_at_s) for key in await store.keys()] == [("alice", NOW_S), ("bob", NOW_S)]


async def test_two_keys_in_use_never_share_a_name(store: Store) -> None:
    """A revoked one leaves its name free."""
    await store.add_key(digest("sk-1"), "alice", NOW_S)

    with pytest.raises(NameTaken, match="'alice'"):
        await store.add_key(digest("sk-2"), "alice", NOW_S)
    assert len(await store.keys()) == 1

    await store.revoke_key("alice", NOW_S)
    assert (await store.add_key(digest("sk-2"), "alice", NOW_S)).name == "alice"


async def test_lists_are_in_order_of_creation(store: Store) -> None:
    """Also when all were made within one second."""
    for n in range(3):
        await store.add_token(digest(f"code-{n}"), str(n), NOW_S, LATER_S)
        await store.add_key(digest(f"key-{n}"), str(n), NOW_S)
        await store.enroll(bytes([n]) * 32, str(n), NOW_S)

    assert [token.name for token in await store.tokens()] == ["0", "1", "2"]
    assert [key.name for key in await store.keys()] == ["0", "1", "2"]
    assert [provider.name for provider in await store.providers()] == ["0", "1", "2"]


async def test_a_store_that_works_answers_a_ping(store: Store) -> None:
    """Nothing is raised."""
    await store.ping()
