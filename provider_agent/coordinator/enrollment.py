"""Who may connect as an agent: challenge, signature, enrolment code; knows no socket and no job.

A nonce is made for one connection, and the order of turns (`protocol.link`) allows one answer to
it: what was overheard once is of no use again. The signature covers the host that the agent
dialled, so what was signed for another host is of no use here.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from provider_agent.coordinator.config import normal_host
from provider_agent.coordinator.store.base import Provider, Refusal, Store, digest
from provider_agent.protocol.auth import (
    MIN_NONCE_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    AuthError,
    decode_exact,
    signed_bytes,
)
from provider_agent.protocol.frames import LEGACY_PROTOCOL, AuthResponse, Scheme
from provider_agent.telemetry.logs import get_logger

MAX_FAILURES = 10
FAILURES_WITHIN_S = 60.0
MAX_REMOTES = 4096

_LONGEST_HOST = 253  # RFC 1035

_FIELD = 2**255 - 19  # the coordinates of the curve are counted modulo this prime (RFC 8032)
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})
"""The y of the curve's eight points of small order, whose x differ in their sign alone."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The agent is who it says, and may connect; the name is that of the code which let it in."""

    provider_id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The agent may not connect; the fields are those of `auth_failed`, the reason is for its operator."""

    code: str | None
    reason: str
    retry: bool = False
    retry_after_ms: int | None = None


class Enrollment:
    """Judges answers to challenges.

    Attributes:
        schemes: the signature schemes to offer in a challenge.
        server: what this coordinator calls itself in a challenge.
    """

    def __init__(
        self,
        store: Store,
        *,
        server_names: Sequence[str],
        dev: bool = False,
        allow_legacy_auth: bool = False,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._server_names = frozenset(server_names)
        self._dev = dev
        self._now = now
        self._clock = clock
        self._failures = Failures()
        self.server = server_names[0] if server_names else ""
        self.schemes = (
            (Scheme.BOUND.value, Scheme.LEGACY.value) if allow_legacy_auth else (Scheme.BOUND.value,)
        )

    def challenge(self) -> bytes:
        """A nonce for one connection."""
        return secrets.token_bytes(MIN_NONCE_BYTES)

    async def verify(
        self, nonce: bytes, response: AuthResponse, host: str, remote: str
    ) -> Accepted | Rejected:
        """The verdict on an answer that came over a connection to `host` (its Host header) from `remote`.

        Raises:
            StoreError: the store cannot be asked.
        """
        public_key = self._proven_key(nonce, response, normal_host(host))
        if isinstance(public_key, Rejected):
            verdict: Accepted | Rejected = public_key
        else:
            verdict = await self._admit(public_key, response.enrollment_code, remote)
        if isinstance(verdict, Rejected):
            _log.warning("agent_rejected", code=verdict.code, reason=verdict.reason, remote=remote)
        return verdict

    def _proven_key(self, nonce: bytes, response: AuthResponse, host: str) -> bytes | Rejected:
        """The public key whose owner answered, or why that is not proven."""
        if response.protocol < LEGACY_PROTOCOL:
            return Rejected("protocol_unsupported", "this coordinator speaks protocol 2 and 3")
        if response.scheme not in self.schemes:
            offered = " or ".join(self.schemes)
            return Rejected(
                "protocol_unsupported", f"this coordinator takes only signatures of scheme {offered}"
            )
        scheme = Scheme(response.scheme)
        if scheme is Scheme.BOUND and host not in self._server_names:
            return _unknown_host(host)
        try:
            public_key = _read_key(response.pubkey)
            signature = decode_exact(response.signature, "signature", exactly=SIGNATURE_BYTES)
            Ed25519PublicKey.from_public_bytes(public_key).verify(
                signature, signed_bytes(scheme, host, nonce)
            )
        except AuthError as error:
            return Rejected("bad_signature", str(error))
        except InvalidSignature:
            return Rejected("bad_signature", f"the signature is not one of this key for {host}")
        return public_key

    async def _admit(self, public_key: bytes, code: str | None, remote: str) -> Accepted | Rejected:
        """What becomes of the proven owner of a key.

        1. One that is known needs no code, and is never held up by the failures of its neighbours.
        2. In dev mode everybody may enrol.
        3. A code is looked at only while its remote has not failed too often.
        """
        provider = await self._store.provider_of(public_key)
        if provider is not None:  # 1
            return _verdict(provider)
        if self._dev:  # 2
            return _verdict(await self._store.enroll(public_key, "", int(self._now())))
        if not code:
            return Rejected(
                "unknown_identity", "this coordinator does not know the agent's key, and got no code with it"
            )
        wait_s = self._failures.wait_s(remote, self._clock())  # 3
        if wait_s > 0:
            reason = "too many wrong enrolment codes from this address; try again later"
            return Rejected(None, reason, retry=True, retry_after_ms=int(wait_s * 1000) + 1)
        redeemed = await self._store.redeem(digest(code), public_key, int(self._now()))
        if isinstance(redeemed, Provider):
            _log.info("agent_enrolled", provider_id=redeemed.provider_id, name=redeemed.name, remote=remote)
            return _verdict(redeemed)
        self._failures.record(remote, self._clock())
        expired = redeemed is Refusal.EXPIRED
        return Rejected("enrollment_expired" if expired else "enrollment_invalid", redeemed.value)


class Failures:
    """Wrong codes per remote in the last `FAILURES_WITHIN_S`; of remotes, the latest `MAX_REMOTES`."""

    def __init__(self) -> None:
        self._times_s: dict[str, deque[float]] = {}

    def record(self, remote: str, now_s: float) -> None:
        times_s = self._times_s.pop(remote, None) or deque(maxlen=MAX_FAILURES)
        times_s.append(now_s)
        self._times_s[remote] = times_s
        if len(self._times_s) > MAX_REMOTES:
            del self._times_s[next(iter(self._times_s))]

    def wait_s(self, remote: str, now_s: float) -> float:
        """How long this remote has to wait before its next code is looked at; 0 when it has not to."""
        times_s = self._times_s.get(remote)
        if times_s is None or len(times_s) < MAX_FAILURES:
            return 0.0
        return max(0.0, times_s[0] + FAILURES_WITHIN_S - now_s)


def _read_key(text: str) -> bytes:
    public_key = decode_exact(text, "pubkey", exactly=PUBLIC_KEY_BYTES)
    if is_anybodys(public_key):
        raise AuthError("pubkey is one that anybody could sign for")
    return public_key


def is_anybodys(public_key: bytes) -> bool:
    """Whether signatures of this key can be made without a private one: it is a point of small order.

    The library takes such keys, however they are spelled: a y may stand for itself less the prime.
    """
    y = int.from_bytes(public_key, "little") & ~(1 << 255)  # the top bit is the sign of x
    return y % _FIELD in _SMALL_ORDER


def _verdict(provider: Provider) -> Accepted | Rejected:
    if provider.revoked_at_s is not None:
        return Rejected("revoked", "this coordinator's operator has revoked the agent's key")
    return Accepted(provider.provider_id, provider.name)


def _unknown_host(host: str) -> Rejected:
    """Trying again unchanged helps once the coordinator's operator has named the host."""
    name = host[:_LONGEST_HOST] or "NAME"
    return Rejected(
        "bad_signature",
        f"this coordinator does not go by the name that was dialled; dial one of its names, or have its "
        f"operator start it with --server-name {name}",
        retry=True,
    )
