"""The store in a database, by SQLAlchemy Core; knows no client, no agent and no secret.

Rules:

1. A transaction that writes takes the write lock when it begins: it waits for other processes at
   its start, where waiting is safe, and what it has read stays true until it ends.
2. Whether a code still enrols is decided by `Token.refusal`, here as in every store.
3. Every error of the library becomes a StoreError in one place (`_begin`).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import RowMapping, Select, Update, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from provider_agent.coordinator.store.base import (
    ClientKey,
    NameTaken,
    Provider,
    Refusal,
    StoreError,
    Token,
    id_of,
    provider_id_of,
)
from provider_agent.coordinator.store.tables import KEYS, PROVIDERS, TOKENS

IMMEDIATE = "immediate"
"""The execution option of a transaction that takes the write lock when it begins."""

_TOKEN = select(
    TOKENS.c.token_id,
    TOKENS.c.name,
    TOKENS.c.created_at_s,
    TOKENS.c.expires_at_s,
    TOKENS.c.provider_id,
    TOKENS.c.revoked_at_s,
)
_PROVIDER = select(
    PROVIDERS.c.provider_id,
    PROVIDERS.c.public_key,
    PROVIDERS.c.name,
    PROVIDERS.c.enrolled_at_s,
    PROVIDERS.c.revoked_at_s,
)
_KEY = select(KEYS.c.key_id, KEYS.c.name, KEYS.c.created_at_s, KEYS.c.revoked_at_s)


class SqlStore:
    """A `Store` over an engine whose connections begin as `IMMEDIATE` asks. It owns the engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{IMMEDIATE: True})

    async def add_token(self, code_digest: bytes, name: str, created_at_s: int, expires_at_s: int) -> Token:
        token = Token(id_of(code_digest), name, created_at_s, expires_at_s)
        row = {
            "digest": code_digest,
            "token_id": token.token_id,
            "name": name,
            "created_at_s": created_at_s,
            "expires_at_s": expires_at_s,
        }
        async with _begin(self._writer) as connection:
            await connection.execute(insert(TOKENS).values(row))
        return token

    async def tokens(self) -> list[Token]:
        return [Token(**row) for row in await self._all(_TOKEN.order_by(TOKENS.c.ordinal))]

    async def revoke_token(self, token_id: str, now_s: int) -> bool:
        mine = (
            TOKENS.c.token_id == token_id,
            TOKENS.c.provider_id.is_(None),
            TOKENS.c.revoked_at_s.is_(None),
        )
        return await self._changes(update(TOKENS).where(*mine).values(revoked_at_s=now_s))

    async def redeem(self, code_digest: bytes, public_key: bytes, now_s: int) -> Provider | Refusal:
        this_code = TOKENS.c.digest == code_digest
        async with _begin(self._writer) as connection:
            enrolled = await _provider(connection, public_key)
            if enrolled is not None:
                return enrolled
            row = (await connection.execute(_TOKEN.where(this_code).with_for_update())).mappings().first()
            if row is None:
                return Refusal.UNKNOWN
            token = Token(**row)
            refusal = token.refusal(now_s)
            if refusal is not None:
                return refusal
            used = update(TOKENS).where(this_code).values(provider_id=provider_id_of(public_key))
            await connection.execute(used)
            return await _insert_provider(connection, public_key, token.name, now_s)

    async def enroll(self, public_key: bytes, name: str, now_s: int) -> Provider:
        async with _begin(self._writer) as connection:
            enrolled = await _provider(connection, public_key)
            return enrolled or await _insert_provider(connection, public_key, name, now_s)

    async def provider_of(self, public_key: bytes) -> Provider | None:
        async with _begin(self._engine) as connection:
            return await _provider(connection, public_key)

    async def providers(self) -> list[Provider]:
        return [Provider(**row) for row in await self._all(_PROVIDER.order_by(PROVIDERS.c.ordinal))]

    async def revoke_provider(self, provider_id: str, now_s: int) -> bool:
        mine = (PROVIDERS.c.provider_id == provider_id, PROVIDERS.c.revoked_at_s.is_(None))
        return await self._changes(update(PROVIDERS).where(*mine).values(revoked_at_s=now_s))

    async def revoked_provider_ids(self) -> list[str]:
        revoked = select(PROVIDERS.c.provider_id).where(PROVIDERS.c.revoked_at_s.is_not(None))
        return [row["provider_id"] for row in await self._all(revoked.order_by(PROVIDERS.c.ordinal))]

    async def add_key(self, key_digest: bytes, name: str, now_s: int) -> ClientKey:
        key = ClientKey(id_of(key_digest), name, now_s)
        row = {"digest": key_digest, "key_id": key.key_id, "name": name, "created_at_s": now_s}
        async with _begin(self._writer) as connection:
            try:
                await connection.execute(insert(KEYS).values(row))
            except IntegrityError as error:  # the one index that a fresh random key can violate is the name's
                raise NameTaken(name) from error
        return key

    async def keys(self) -> list[ClientKey]:
        return [ClientKey(**row) for row in await self._all(_KEY.order_by(KEYS.c.ordinal))]

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        rows = await self._all(_KEY.where(KEYS.c.digest == key_digest, KEYS.c.revoked_at_s.is_(None)))
        return ClientKey(**rows[0]) if rows else None

    async def revoke_key(self, name_or_id: str, now_s: int) -> bool:
        mine = (or_(KEYS.c.name == name_or_id, KEYS.c.key_id == name_or_id), KEYS.c.revoked_at_s.is_(None))
        return await self._changes(update(KEYS).where(*mine).values(revoked_at_s=now_s))

    async def ping(self) -> None:
        await self._all(_KEY.limit(1))

    async def close(self) -> None:
        await self._engine.dispose()

    async def _all(self, question: Select[Any]) -> Sequence[RowMapping]:
        async with _begin(self._engine) as connection:
            rows: Sequence[RowMapping] = (await connection.execute(question)).mappings().all()
            return rows

    async def _changes(self, change: Update) -> bool:
        async with _begin(self._writer) as connection:
            return (await connection.execute(change)).rowcount > 0


@asynccontextmanager
async def _begin(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction, rolled back by any exception."""
    try:
        async with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"the coordinator's database cannot be used: {_cause(error)}") from error


def _cause(error: SQLAlchemyError) -> str:
    """What the database itself says; the library's own text would show the statement and its values."""
    origin = getattr(error, "orig", None)
    return str(origin) if origin is not None else type(error).__name__


async def _provider(connection: AsyncConnection, public_key: bytes) -> Provider | None:
    row = (await connection.execute(_PROVIDER.where(PROVIDERS.c.public_key == public_key))).mappings().first()
    return None if row is None else Provider(**row)


async def _insert_provider(connection: AsyncConnection, public_key: bytes, name: str, now_s: int) -> Provider:
    provider = Provider(provider_id_of(public_key), public_key, name, now_s)
    row = {
        "provider_id": provider.provider_id,
        "public_key": public_key,
        "name": name,
        "enrolled_at_s": now_s,
    }
    await connection.execute(insert(PROVIDERS).values(row))
    return provider
