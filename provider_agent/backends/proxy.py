"""The environment's proxy on the way to an engine on another machine; opens no connection."""

from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from provider_agent.backends import address


class Proxy(NamedTuple):
    """Attributes: authorization: the value of a Proxy-Authorization field, if one is needed."""

    host: str
    port: int
    is_tls: bool
    authorization: str | None = None


def environment_proxy(base_url: str) -> Proxy | None:
    """None for engines on this machine and those that `no_proxy` names. Raises ValueError for an odd one."""
    place = address.place_of(base_url)
    if place.is_loopback or proxy_bypass(place.host):
        return None
    proxies = getproxies()
    url = proxies.get(urlsplit(base_url).scheme) or proxies.get("all")
    return read(url) if url and url.startswith(("http://", "https://")) else None


def read(url: str) -> Proxy:
    """A proxy's URL, such as `http://user:password@proxy.lan:3128`. Raises ValueError."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    if not parts.hostname:
        raise ValueError("it names no host")
    authorization = None
    if parts.username is not None:
        account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(account.encode()).decode()
    return Proxy(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, authorization)
