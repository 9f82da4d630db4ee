"""The tables and the migrations say the same."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from provider_agent.coordinator.store import tables
from provider_agent.coordinator.store.sqlite import DATABASE_FILE, open_sqlite

MIGRATIONS = Path(tables.__file__).parent / "migrations"


def test_head_is_the_newest_migration() -> None:
    """A database at HEAD is used without asking Alembic."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD


async def test_the_migrations_lead_to_the_tables(tmp_path: Path) -> None:
    """Nothing was changed in one place only."""
    await (await open_sqlite(tmp_path)).close()
    engine = create_engine(f"sqlite:///{tmp_path / DATABASE_FILE}")
    try:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), tables.METADATA) == []
    finally:
        engine.dispose()
