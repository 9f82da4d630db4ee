"""Which addresses are watched, and what the engines there are called; asks no engine anything.

After a change of the settings an address of which they say the same is watched on as if nothing had happened.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from provider_agent.backends.address import normalise, place_of
from provider_agent.backends.base import Backend, BackendSettings
from provider_agent.backends.families import AUTO, FAMILIES
from provider_agent.backends.watch import Watch

LOOPBACK_PORTS: Final = (11434, 8000, 8080, 1234, 30000, 1337, 5001, 5000, 3000, 12434, 8001, 8081)
"""Where engines listen unless told otherwise (engines.md), and the neighbours of those that share a port."""

_PATHS: Final = {12434: "/engines"}
"""Docker's model runner has its API below a folder."""

MakeBackend = Callable[[str, BackendSettings, str, Collection[Watch]], Backend]
"""A backend of this kind, with these settings, at this URL, with a name that none of those watches has."""


def watches_for(
    settings: Sequence[BackendSettings],
    guessed_ports: Sequence[int],
    before: Collection[Watch],
    make: MakeBackend,
) -> list[Watch]:
    """The watches by these settings: configured ones in their order, then guesses by port.

    1. Of those `before`, whoever has equal settings stays who it is.
    2. One whose settings changed starts with what was known of it, so that nothing flickers.
    """
    old = list(before)
    configured = [_taken(old, [watch for watch in old if _says(watch, each)]) for each in settings]  # 1
    places = {place_of(_url_of(each)) for each in settings}
    urls = (f"http://127.0.0.1:{port}{_PATHS.get(port, '')}" for port in guessed_ports)
    guesses = [
        _taken(old, [watch for watch in old if watch.url == url and not watch.is_configured]) or _guess(url)
        for url in urls
        if place_of(url) not in places
    ]
    named = [watch for watch in (*configured, *guesses) if watch is not None]
    for index, watch in enumerate(configured):
        if watch is None:
            configured[index] = made = _made(settings[index], named, old, make)  # 2
            named.append(made)
    return [watch for watch in (*configured, *guesses) if watch is not None]


def free_name(settings: BackendSettings, kind: str, url: str, beside: Collection[Watch]) -> str:
    """As the operator says, or by kind and port; with a number if that is taken."""
    wanted = settings.name or f"{kind}-{place_of(url).port}"
    taken = {watch.backend.name for watch in beside if watch.backend is not None}
    numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *numbered) if name not in taken)


def _taken(watches: list[Watch], fitting: Sequence[Watch]) -> Watch | None:
    """The first that fits, taken out: of two equal ones each has its own."""
    if not fitting:
        return None
    watches.remove(fitting[0])
    return fitting[0]


def _says(watch: Watch, settings: BackendSettings) -> bool:
    return watch.is_configured and watch.settings == settings


def _made(
    settings: BackendSettings, beside: Collection[Watch], old: Collection[Watch], make: MakeBackend
) -> Watch:
    url = _url_of(settings)
    before = _predecessor(settings, url, old)
    kind = settings.kind
    if kind == AUTO and before is not None and before.backend is not None:
        kind = before.backend.kind
    backend = None if kind == AUTO else make(kind, settings, url, beside)
    watch = Watch(settings, url, is_configured=True, backend=backend)
    if before is not None:
        watch.presume(before)
    return watch


def _predecessor(settings: BackendSettings, url: str, old: Collection[Watch]) -> Watch | None:
    """Who had that name, or else that address."""
    same_name = (watch for watch in old if settings.name and watch.settings.name == settings.name)
    same_place = (watch for watch in old if place_of(watch.url) == place_of(url))
    return next(same_name, None) or next(same_place, None)


def _url_of(settings: BackendSettings) -> str:
    family = FAMILIES.get(settings.kind)
    if family is None and settings.kind != AUTO:
        raise ValueError(f"{settings.kind!r} is no kind of engine: {', '.join((*FAMILIES, AUTO))}")
    return normalise(settings.url or (family.default_url if family else None) or "")


def _guess(url: str) -> Watch:
    return Watch(BackendSettings(kind=AUTO, url=url), url, is_configured=False)
