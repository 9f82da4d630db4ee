"""What is known of one engine from probe to probe; pure, time is an argument."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from provider_agent.backends.base import Backend, BackendModel, BackendSettings


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One engine and what it may be used for.

    Attributes:
        models: after the globs of the engine's own settings; empty while it is away.
        healthy: it answered the last probe.
    """

    backend: Backend
    models: tuple[BackendModel, ...]
    healthy: bool


@dataclass(frozen=True, slots=True)
class Catalog:
    """All engines: configured ones in their order, then discovered ones by port."""

    entries: tuple[CatalogEntry, ...]


class Watch:
    """One address, and what came of looking at it.

    Attributes:
        settings: what the operator says of it, or the defaults.
        url: normalised.
        is_configured: the operator named it; else it is a guess.
        backend: None until somebody was recognised there.
        deaths: how often a job found it dead.
    """

    def __init__(
        self, settings: BackendSettings, url: str, *, is_configured: bool, backend: Backend | None = None
    ) -> None:
        self.settings = settings
        self.url = url
        self.is_configured = is_configured
        self.backend = backend
        self._models: tuple[BackendModel, ...] = ()
        self._healthy = False
        self._failing_since_s: float | None = None
        self.deaths = 0

    def succeeded(self, backend: Backend, models: tuple[BackendModel, ...], *, asked_at: int) -> None:
        """The engine listed its models. What was asked before a job found it dead is no news."""
        if asked_at != self.deaths:
            return
        self.backend = backend
        self._models = tuple(model for model in models if self._lets_through(model.model_id))
        self._healthy = True
        self._failing_since_s = None

    def failed(self, now_s: float, grace_s: float) -> None:
        """A probe failed. Its models stay until it has failed for `grace_s`: one hiccup is none."""
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        self._healthy = False
        if now_s - self._failing_since_s >= grace_s:
            self._models = ()

    def reported_dead(self, now_s: float) -> None:
        """A job could not connect: no grace."""
        self._healthy = False
        self._models = ()
        self.deaths += 1
        if self._failing_since_s is None:
            self._failing_since_s = now_s

    @property
    def is_in_grace(self) -> bool:
        """It fails, and is still offered."""
        return not self._healthy and bool(self._models)

    @property
    def is_found(self) -> bool:
        """The last look succeeded."""
        return self._healthy

    @property
    def is_failing(self) -> bool:
        """The last look failed. False before the first one."""
        return self._failing_since_s is not None

    @property
    def entry(self) -> CatalogEntry | None:
        """Its place in the catalog: a configured engine keeps one while it is away, a guess does not."""
        if self.backend is None or not (self.is_configured or self._healthy or self._models):
            return None
        return CatalogEntry(self.backend, self._models, self._healthy)

    def _lets_through(self, model_id: str) -> bool:
        return _matches(model_id, self.settings.models) and not _matches(model_id, self.settings.exclude)


def _matches(model_id: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model_id, glob) for glob in globs)
