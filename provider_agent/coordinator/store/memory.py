"""A store that ends with its process: for `--dev` and for tests; knows no file."""

from dataclasses import replace

from provider_agent.coordinator.store.base import (
    ClientKey,
    NameTaken,
    Provider,
    Refusal,
    Token,
    id_of,
    provider_id_of,
)


class MemoryStore:
    """Everything in dictionaries. No method suspends, so each is one transaction."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Token] = {}
        self._providers: dict[bytes, Provider] = {}
        self._keys: dict[bytes, ClientKey] = {}

    async def add_token(self, code_digest: bytes, name: str, created_at_s: int, expires_at_s: int) -> Token:
        token = Token(id_of(code_digest), name, created_at_s, expires_at_s)
        self._tokens[code_digest] = token
        return token

    async def tokens(self) -> list[Token]:
        return list(self._tokens.values())

    async def revoke_token(self, token_id: str, now_s: int) -> bool:
        for code_digest, token in self._tokens.items():
            if token.token_id == token_id and token.revoked_at_s is None and token.provider_id is None:
                self._tokens[code_digest] = replace(token, revoked_at_s=now_s)
                return True
        return False

    async def redeem(self, code_digest: bytes, public_key: bytes, now_s: int) -> Provider | Refusal:
        enrolled = self._providers.get(public_key)
        if enrolled is not None:
            return enrolled
        token = self._tokens.get(code_digest)
        refusal = Refusal.UNKNOWN if token is None else token.refusal(now_s)
        if token is None or refusal is not None:
            return refusal or Refusal.UNKNOWN
        self._tokens[code_digest] = replace(token, provider_id=provider_id_of(public_key))
        return await self.enroll(public_key, token.name, now_s)

    async def enroll(self, public_key: bytes, name: str, now_s: int) -> Provider:
        new = Provider(provider_id_of(public_key), public_key, name, now_s)
        return self._providers.setdefault(public_key, new)

    async def provider_of(self, public_key: bytes) -> Provider | None:
        return self._providers.get(public_key)

    async def providers(self) -> list[Provider]:
        return list(self._providers.values())

    async def revoke_provider(self, provider_id: str, now_s: int) -> bool:
        for public_key, provider in self._providers.items():
            if provider.provider_id == provider_id and provider.revoked_at_s is None:
                self._providers[public_key] = replace(provider, revoked_at_s=now_s)
                return True
        return False

    async def revoked_provider_ids(self) -> list[str]:
        return [
            provider.provider_id for provider in self._providers.values() if provider.revoked_at_s is not None
        ]

    async def add_key(self, key_digest: bytes, name: str, now_s: int) -> ClientKey:
        if any(key.name == name and key.revoked_at_s is None for key in self._keys.values()):
            raise NameTaken(name)
        key = ClientKey(id_of(key_digest), name, now_s)
        self._keys[key_digest] = key
        return key

    async def keys(self) -> list[ClientKey]:
        return list(self._keys.values())

    async def key_of(self, key_digest: bytes) -> ClientKey | None:
        key = self._keys.get(key_digest)
        return key if key is not None and key.revoked_at_s is None else None

    async def revoke_key(self, name_or_id: str, now_s: int) -> bool:
        for key_digest, key in self._keys.items():
            if name_or_id in (key.name, key.key_id) and key.revoked_at_s is None:
                self._keys[key_digest] = replace(key, revoked_at_s=now_s)
                return True
        return False

    async def ping(self) -> None:
        """Always fine."""

    async def close(self) -> None:
        """Nothing to close."""
