"""Which bytes an agent signs to prove who it is; knows no key and no cryptography."""

import base64
import binascii
from collections.abc import Iterable

from provider_agent.protocol.frames import Scheme

MIN_NONCE_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_BOUND_PREFIX = b"provider-agent/3\0"


class AuthError(Exception):
    """The peer's part of the handshake cannot be accepted; the text is one sentence for the operator."""


def choose_scheme(offered: Iterable[str], *, allow_legacy: bool) -> Scheme:
    """The scheme to sign with.

    The bound one whenever it is offered. The legacy one, whose signature a hostile server
    could relay to the real one, only with the operator's consent.

    Raises:
        AuthError: nothing that is offered may be used.
    """
    offers = set(offered)
    if Scheme.BOUND.value in offers:
        return Scheme.BOUND
    if Scheme.LEGACY.value in offers and allow_legacy:
        return Scheme.LEGACY
    if Scheme.LEGACY.value in offers:
        raise AuthError(
            "the coordinator offers only the unbound signature of protocol 2, which a hostile server could "
            "relay; set coordinator.allow_legacy_auth = true if you trust it"
        )
    raise AuthError(f"the coordinator offers no signature scheme that this agent knows: {sorted(offers)}")


def signed_bytes(scheme: Scheme, server_host: str, nonce: bytes) -> bytes:
    """What the signature covers; `server_host` is the host that the agent dialled, without a port.

    Raises:
        AuthError: the host is no host name.
    """
    if scheme is Scheme.LEGACY:
        return nonce
    try:
        host = server_host.lower().encode("ascii" if server_host.isascii() else "idna")
    except UnicodeError as error:
        raise AuthError(f"{server_host!r} is no host name") from error
    return _BOUND_PREFIX + host + b"\0" + nonce


def decode_exact(text: str, what: str, *, at_least: int = 0, exactly: int = 0) -> bytes:
    """Base64 text of the handshake as bytes of the right length.

    Raises:
        AuthError: it is not base64, or has another length; the sentence starts with `what`.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AuthError(f"{what} is not valid base64") from error
    if exactly and len(raw) != exactly:
        raise AuthError(f"{what} has {len(raw)} bytes, not {exactly}")
    if len(raw) < at_least:
        raise AuthError(f"{what} has {len(raw)} bytes, fewer than {at_least}")
    return raw
