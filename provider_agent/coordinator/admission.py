"""Whether whoever sent a request may ask: its API key; knows no HTTP and no job."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from provider_agent.coordinator.store.base import Store, digest

REMEMBER_S = 2.0
"""For so long after its revocation a key may still be taken."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, by the name of the key."""

    name: str


DEV_CLIENT = Client("dev")


class Admission:
    """Checks API keys against the store.

    A key that was found is remembered for `REMEMBER_S`, so that a check costs microseconds; one
    that was not found never is, so that a new key works at once. What is remembered are hashes,
    and never more of them than the store has keys.
    """

    def __init__(
        self, store: Store, *, dev: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._dev = dev
        self._clock = clock
        self._known: dict[bytes, tuple[Client, float]] = {}  # with the time until which it is remembered

    async def check(self, authorization: str | None) -> Client | None:
        """The client behind an `Authorization` header; None is a refusal.

        Raises:
            StoreError: the store cannot be asked.
        """
        if self._dev:
            return DEV_CLIENT
        key = _bearer(authorization or "")
        if not key:
            return None
        key_digest = digest(key)
        client, until_s = self._known.get(key_digest, (None, 0.0))
        if client is not None and self._clock() < until_s:
            return client
        return await self._ask(key_digest)

    async def _ask(self, key_digest: bytes) -> Client | None:
        asked_at_s = self._clock()  # before the answer: it may be old when it arrives
        key = await self._store.key_of(key_digest)
        if key is None:
            self._known.pop(key_digest, None)
            return None
        client = Client(key.name)
        self._known[key_digest] = (client, asked_at_s + REMEMBER_S)
        return client


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
