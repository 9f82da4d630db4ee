"""Opens the embedded database and brings it to the newest schema; knows no question asked of it.

Rules:

1. Nobody but the coordinator's user may read it: the file is made with 0600, in a folder of 0700,
   and SQLite gives its side files the mode of the main one.
2. Many processes: write-ahead log, so that readers never wait; writers wait `BUSY_S` for each other.
3. The schema is brought up in one write transaction: of two that start at once the second finds
   the work done. Alembic is loaded only when there is work.
"""

import os
from pathlib import Path

from sqlalchemy import URL, Connection, event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from provider_agent.coordinator.store.base import NoDataError, StoreError
from provider_agent.coordinator.store.sql import IMMEDIATE, SqlStore
from provider_agent.coordinator.store.tables import HEAD

DATABASE_FILE = "coordinator.db"
BUSY_S = 5.0

_MIGRATIONS = Path(__file__).parent / "migrations"
_CONNECTIONS = 4  # a thread each; questions take microseconds


async def open_sqlite(data_dir: Path, *, create: bool = True) -> SqlStore:
    """The store in this folder; folder and database are made when they are missing, if `create` says so.

    Raises:
        NoDataError: there is no database, and none is to be made.
        StoreError: the folder or the file cannot be used, or a newer version has written it.
    """
    path = data_dir / DATABASE_FILE
    _secure(path, create=create)
    engine = _engine(path)
    try:
        async with engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            await connection.run_sync(_upgrade)
    except BaseException as error:
        await engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise StoreError(
                f"the database {path} cannot be used: {getattr(error, 'orig', error)}"
            ) from error
        raise
    return SqlStore(engine)


def _secure(path: Path, *, create: bool) -> None:
    """Make the file if it may be made, and let nobody else read it."""
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            if os.name != "nt" and os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not create and isinstance(error, FileNotFoundError):
            raise NoDataError(f"there is no data of a coordinator in {path.parent}") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise StoreError(
            f"the database {path} cannot be opened: {reason}; give --data a folder that you may write to"
        ) from error


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_S},
        pool_size=_CONNECTIONS,
        max_overflow=0,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin by itself, and too late; `_begin` does
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(
        "PRAGMA synchronous = NORMAL"
    )  # with a write-ahead log a power cut loses nothing but the last
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _upgrade(connection: Connection) -> None:
    revision = _revision(connection)
    if revision == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise StoreError(
            f"the database is of a version that this program does not know (revision {revision}); "
            "use the program that wrote it, or a newer one"
        ) from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision
