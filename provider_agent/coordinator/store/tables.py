"""The tables as the newest migration leaves them; knows no question that is asked of them."""

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table

HEAD = "0001"
"""The newest migration: a database at this revision is used without loading Alembic."""

METADATA = MetaData()

TOKENS = Table(
    "enrollment_tokens",
    METADATA,
    Column("ordinal", Integer, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("token_id", String(12), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("created_at_s", Integer, nullable=False),
    Column("expires_at_s", Integer, nullable=False),
    Column("provider_id", String(40)),
    Column("revoked_at_s", Integer),
)

PROVIDERS = Table(
    "providers",
    METADATA,
    Column("ordinal", Integer, primary_key=True),
    Column("provider_id", String(40), nullable=False, unique=True),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("enrolled_at_s", Integer, nullable=False),
    Column("revoked_at_s", Integer),
)

KEYS = Table(
    "client_keys",
    METADATA,
    Column("ordinal", Integer, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("key_id", String(12), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("created_at_s", Integer, nullable=False),
    Column("revoked_at_s", Integer),
)

_IN_USE = KEYS.c.revoked_at_s.is_(None)
Index("one_key_in_use_per_name", KEYS.c.name, unique=True, sqlite_where=_IN_USE, postgresql_where=_IN_USE)
