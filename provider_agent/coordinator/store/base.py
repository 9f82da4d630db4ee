"""What the coordinator asks of its store; knows no database.

No secret is ever stored: an enrolment code or a client's key is at least 256 random bits, known here
by its SHA-256 alone (`digest`). It is looked up by that hash, so that the time of a look-up tells
nothing of the secret. Times are whole seconds since 1970, UTC.
"""

import hashlib
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

ENROLLMENT_PREFIX = "pa-enroll-"
KEY_PREFIX = "sk-pa-"

_SECRET_BYTES = 32
_ID_DIGITS = 12
_PROVIDER_ID_DIGITS = 20


class StoreError(Exception):
    """The store cannot be used now; the text is one sentence for the operator."""


class NoDataError(StoreError):
    """There is no store where one must be."""


class NameTaken(Exception):
    """There is a client key of this name that is not revoked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"there is a key named {self.name!r} already; choose another name, or revoke that one first"


class Refusal(Enum):
    """Why a code does not enrol anybody; the value is the reason that an agent is given."""

    UNKNOWN = "this enrolment code is not known here"
    EXPIRED = "this enrolment code has expired"
    USED = "this enrolment code has been used"
    REVOKED = "this enrolment code has been revoked"


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment code, as its operator sees it.

    Attributes:
        token_id: the first digits of the code's hash: says which code, but not the code.
        provider_id: who used it; None while nobody did.
    """

    token_id: str
    name: str
    created_at_s: int
    expires_at_s: int
    provider_id: str | None = None
    revoked_at_s: int | None = None

    def refusal(self, now_s: int) -> Refusal | None:
        """Why it would not enrol anybody now; None when it would."""
        if self.revoked_at_s is not None:
            return Refusal.REVOKED
        if self.provider_id is not None:
            return Refusal.USED
        return Refusal.EXPIRED if self.expires_at_s <= now_s else None


@dataclass(frozen=True, slots=True)
class Provider:
    """An agent that may connect: whoever signs with this public key."""

    provider_id: str
    public_key: bytes
    name: str
    enrolled_at_s: int
    revoked_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client that may send requests. `key_id` is made as `Token.token_id` is."""

    key_id: str
    name: str
    created_at_s: int
    revoked_at_s: int | None = None


class Store(Protocol):
    """Who may enrol, who may connect, who may ask.

    Each method is one transaction. Several processes may use one store at a time: what one has
    written the others read at once. Lists are in order of creation. Every method raises StoreError
    when the store cannot be used.
    """

    async def add_token(
        self, code_digest: bytes, name: str, created_at_s: int, expires_at_s: int
    ) -> Token: ...

    async def tokens(self) -> list[Token]: ...

    async def revoke_token(self, token_id: str, now_s: int) -> bool:
        """False when there is none of this id that could still be used or was not yet revoked."""
        ...

    async def redeem(self, code_digest: bytes, public_key: bytes, now_s: int) -> Provider | Refusal:
        """Enrol the holder of this key, and use the code up, in one step: of many at once, one gets in.

        A key that is enrolled already is given back as it is, and the code stays as it was.
        """
        ...

    async def enroll(self, public_key: bytes, name: str, now_s: int) -> Provider:
        """Enrol the holder of this key without any code; one that is enrolled is given back as it is."""
        ...

    async def provider_of(self, public_key: bytes) -> Provider | None: ...

    async def providers(self) -> list[Provider]: ...

    async def revoke_provider(self, provider_id: str, now_s: int) -> bool:
        """False when there is none of this id that was not revoked."""
        ...

    async def revoked_provider_ids(self) -> list[str]: ...

    async def add_key(self, key_digest: bytes, name: str, now_s: int) -> ClientKey:
        """Raises NameTaken when a key of this name is in use."""
        ...

    async def keys(self) -> list[ClientKey]: ...

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        """The key with this hash, unless it was revoked."""
        ...

    async def revoke_key(self, name_or_id: str, now_s: int) -> bool:
        """False when there is none of this name or id that was not revoked."""
        ...

    async def ping(self) -> None:
        """Raises StoreError when the store cannot be used."""
        ...

    async def close(self) -> None: ...


def new_secret(prefix: str) -> str:
    """A secret to hand out once: the prefix tells people and scanners what it is."""
    return prefix + secrets.token_urlsafe(_SECRET_BYTES)


def digest(secret: str) -> bytes:
    """What is kept of a secret. Plain SHA-256 is enough for 256 random bits: there is nothing to guess."""
    # A header may hold bytes that are no text, which come as surrogates: no key, but no error either.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def id_of(secret_digest: bytes) -> str:
    """By which name people speak of a secret."""
    return secret_digest.hex()[:_ID_DIGITS]


def provider_id_of(public_key: bytes) -> str:
    """The same for the same key in every store, so that a new database knows its agents by the same names."""
    return "p-" + hashlib.sha256(public_key).hexdigest()[:_PROVIDER_ID_DIGITS]
