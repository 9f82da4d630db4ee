"""The store in a database, beyond the contract of all stores."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from provider_agent.coordinator.store.base import Refusal, StoreError, digest, new_secret
from provider_agent.coordinator.store.sql import SqlStore
from provider_agent.coordinator.store.sqlite import DATABASE_FILE, open_sqlite

NOW_S = 1_000_000


@pytest.fixture
async def two_stores(tmp_path: Path) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """As a coordinator and its command line have them: two openings of one database."""
    async with AsyncExitStack() as closing:
        stores = await open_sqlite(tmp_path), await open_sqlite(tmp_path)
        for store in stores:
            closing.push_async_callback(store.close)
        yield stores


async def test_what_one_process_writes_the_other_reads_at_once(
    two_stores: tuple[SqlStore, SqlStore],
) -> None:
    """A new key works without a restart of the coordinator."""
    ours, theirs = two_stores
    assert await ours.key_of(digest("sk-1")) is None

    key = await theirs.add_key(digest("sk-1"), "alice", NOW_S)
    assert await ours.key_of(digest("sk-1")) == key

    await theirs.revoke_key("alice", NOW_S)
    assert await ours.key_of(digest("sk-1")) is None


async def test_a_code_works_once_over_all_processes(two_stores: tuple[SqlStore, SqlStore]) -> None:
    """Field note 48: the database decides, not the memory of one process."""
    ours, theirs = two_stores
    await theirs.add_token(digest("code"), "", NOW_S, NOW_S + 1)
    await theirs.redeem(digest("code"), b"a" * 32, NOW_S)

    assert await ours.redeem(digest("code"), b"b" * 32, NOW_S) is Refusal.USED


async def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    """Whoever steals the database cannot connect with it."""
    code, key = new_secret("pa-enroll-"), new_secret("sk-pa-")
    store = await open_sqlite(tmp_path)
    await store.add_token(digest(code), "", NOW_S, NOW_S)
    await store.add_key(digest(key), "alice", NOW_S)
    await store.close()

    content = (tmp_path / DATABASE_FILE).read_bytes()

    assert digest(key) in content
    assert key.encode() not in content
    assert code.encode() not in content


async def test_a_broken_database_is_a_store_error_without_the_statement(tmp_path: Path) -> None:
    """The sentence says what the database said; a statement might show a hash."""
    store = await open_sqlite(tmp_path)
    try:
        with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as database:
            database.execute("DROP TABLE client_keys")

        with pytest.raises(StoreError, match="cannot be used: no such table: client_keys") as caught:
            await store.ping()
        assert "SELECT" not in str(caught.value)
    finally:
        await store.close()
