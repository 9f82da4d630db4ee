"""Where requests to an engine go, and their heads; opens no connection."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from provider_agent import __version__
from provider_agent.backends.proxy import Proxy

_MAY_STAND_IN_PATHS: Final = "/%:@!$&'()*+,;=~-._?"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Target:
    """One engine. Raises ValueError for a URL that leads nowhere (UnicodeError for an impossible name).

    Attributes:
        host: as it is dialled: a name in ASCII, or an address without brackets.
        proxy: over which it is reached, if over any.
    """

    def __init__(self, base_url: str, proxy: Proxy | None = None) -> None:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        self.host = host if is_address(host) else host.encode("idna").decode()
        self.is_tls = parts.scheme == "https"
        self.port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self.proxy = proxy
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.name_and_port = f"{shown}:{self.port}"
        self._named = shown if self.port == _DEFAULT_PORTS[parts.scheme] else self.name_and_port
        is_forwarded = proxy is not None and not self.is_tls
        self._before_path = (f"http://{self._named}" if is_forwarded else "") + quote(
            parts.path, safe=_MAY_STAND_IN_PATHS
        )
        self._authorization = proxy.authorization if proxy is not None and is_forwarded else None
        self._heads: dict[tuple[str, str | None, bool, bool], bytes] = {}  # few: endpoints, pages, one key

    def head(self, path: str, body: bytes | None, *, api_key: str | None, keeps: bool) -> bytes:
        """The head of a GET, or of a POST if there is a body. `keeps`: the connection may be kept."""
        variant = (path, api_key, body is not None, keeps)
        ready = self._heads.get(variant)
        if ready is None:
            ready = self._heads[variant] = self._make_head(path, api_key, posts=body is not None, keeps=keeps)
        return ready if body is None else b"%bContent-Length: %d\r\n\r\n" % (ready, len(body))

    def tunnel_head(self) -> bytes:
        """The head of the CONNECT to the proxy."""
        lines = [f"CONNECT {self.name_and_port} HTTP/1.1", f"Host: {self.name_and_port}"]
        if self.proxy is not None and self.proxy.authorization:
            lines.append(f"Proxy-Authorization: {self.proxy.authorization}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _make_head(self, path: str, api_key: str | None, *, posts: bool, keeps: bool) -> bytes:
        method = "POST" if posts else "GET"
        lines = [
            f"{method} {self._before_path}{quote(path, safe=_MAY_STAND_IN_PATHS)} HTTP/1.1",
            f"Host: {self._named}",
            f"User-Agent: provider-agent/{__version__}",
            "Accept: */*",
            "Accept-Encoding: identity",
        ]
        if posts:
            lines.append("Content-Type: application/json")
        if api_key:
            lines.append(f"Authorization: Bearer {api_key}")
        if self._authorization:
            lines.append(f"Proxy-Authorization: {self._authorization}")
        if not keeps:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "" if posts else "\r\n"]).encode()


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
