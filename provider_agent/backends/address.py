"""Base URLs of engines: one spelling for each, and which of them are on this machine; opens no connection."""

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what servers listen on, never dialled


class BadAddress(ValueError):
    """Not the base URL of an engine. Attributes: url."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url!r} is no base URL of an engine: {self.reason}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens; equal for all spellings of this machine."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host == "loopback"


def normalise(url: str) -> str:
    """Scheme, host, port if it is not the scheme's own, path without `/v1` and without a trailing slash.

    An address that a server listens on (`0.0.0.0`) becomes the one to reach it at.
    """
    parts = _split(url)
    host = (parts.hostname or "").lower()
    if host in _WILDCARDS:
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    port = _port(parts)
    where = shown if port == _DEFAULT_PORTS[parts.scheme] else f"{shown}:{port}"
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{where}{path}"


def place_of(url: str) -> Place:
    """The place of a URL; `localhost`, `127.0.0.1` and `[::1]` are one."""
    parts = _split(url)
    host = (parts.hostname or "").lower().rstrip(".")
    return Place("loopback" if _is_loopback(host) else host, _port(parts))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost") or host in _WILDCARDS:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadAddress(url, "the scheme must be http or https")
    if not parts.hostname:
        raise BadAddress(url, "it names no host")
    if parts.username or parts.password:
        raise BadAddress(parts.hostname, "a key belongs into api_key_env, not into the URL")
    if parts.query or parts.fragment:
        raise BadAddress(url, "it must not have a query or a fragment")
    return parts


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        raise BadAddress(parts.geturl(), "the port is not a number up to 65535") from None
