"""Opening the embedded database."""

import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from provider_agent.coordinator.store.base import NoDataError, StoreError
from provider_agent.coordinator.store.sqlite import DATABASE_FILE, open_sqlite
from provider_agent.coordinator.store.tables import HEAD

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    """What a folder holds."""
    return [path.name for path in folder.iterdir()]


async def test_the_first_opening_makes_folder_and_schema(tmp_path: Path) -> None:
    """And the second one finds them."""
    for _ in range(2):
        store = await open_sqlite(tmp_path / "new" / "folder")
        await store.ping()
        await store.close()

    with closing(sqlite3.connect(tmp_path / "new" / "folder" / DATABASE_FILE)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_opening_what_must_be_there_makes_nothing(tmp_path: Path) -> None:
    """Neither the folder nor a database in one that is there."""
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(NoDataError, match=f"there is no data of a coordinator in {folder}$"):
            await open_sqlite(folder, create=False)

    assert names_in(tmp_path) == []


async def test_opening_what_must_be_there_opens_it(tmp_path: Path) -> None:
    """Once somebody has made it."""
    for create in (True, False):
        store = await open_sqlite(tmp_path, create=create)
        await store.ping()
        await store.close()


@posix
async def test_only_the_owner_may_read_the_database(tmp_path: Path) -> None:
    """Side files included; it holds who may do what."""
    store = await open_sqlite(tmp_path / "data")
    try:
        await store.add_key(b"d" * 32, "alice", 1)

        assert mode(tmp_path / "data") == 0o700
        assert {mode(file) for file in (tmp_path / "data").iterdir()} == {0o600}
    finally:
        await store.close()


@posix
async def test_loose_permissions_of_a_database_are_tightened(tmp_path: Path) -> None:
    """Such as those of one that was copied back from a backup."""
    (tmp_path / DATABASE_FILE).touch(0o644)

    await (await open_sqlite(tmp_path)).close()

    assert mode(tmp_path / DATABASE_FILE) == 0o600


async def test_a_path_with_a_percent_sign_is_a_path(tmp_path: Path) -> None:
    """Alembic reads its settings with %-interpolation."""
    await (await open_sqlite(tmp_path / "100%s")).close()


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Rather than written to by a program that does not understand it."""
    await (await open_sqlite(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()

    with pytest.raises(StoreError, match=r"revision 9999.*newer one"):
        await open_sqlite(tmp_path)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / DATABASE_FILE).write_bytes(b"dear diary, " * 100)

    with pytest.raises(StoreError, match="not a database"):
        await open_sqlite(tmp_path)
    assert (tmp_path / DATABASE_FILE).read_bytes().startswith(b"dear diary")


async def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """One sentence with the path and the reason."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"coordinator\.db cannot be opened: "):
        await open_sqlite(tmp_path / "file" / "data")
