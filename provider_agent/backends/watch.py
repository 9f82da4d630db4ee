"""What is known of one engine from probe to probe; pure, time is an argument."""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

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


class Pace(NamedTuple):
    """How often engines are looked at.

    Attributes:
        interval_s: one that is well, and an address where none is known.
        grace_s: how long one that fails is still offered.
        retry_s: one that is known and fails.
    """

    interval_s: float
    grace_s: float
    retry_s: float


REMEMBERED_S: Final = 600.0
"""How long an engine that nobody configured is known after its last answer: then somebody else may have its
port, who is not to be asked who he is every other second."""


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
        self._listed: tuple[BackendModel, ...] = ()
        self._models: tuple[BackendModel, ...] = ()
        self._healthy = False
        self._failing_since_s: float | None = None
        self._asked_s = -math.inf
        self._wanted_s = math.inf
        self.deaths = 0

    def presume(self, before: "Watch") -> None:
        """What was known of it under other settings holds until the next look, as far as these allow."""
        listed, self._healthy, self._failing_since_s = before.knowledge
        self._know(listed)

    @property
    def knowledge(self) -> tuple[tuple[BackendModel, ...], bool, float | None]:
        """What it listed, whether it is well, and since when it is not."""
        return self._listed, self._healthy, self._failing_since_s

    # --- when to look -----------------------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """Somebody looks now."""
        self._asked_s = now_s
        self._wanted_s = math.inf

    def want(self, at_s: float) -> None:
        """There is a reason to look, at this time at the latest."""
        self._wanted_s = min(self._wanted_s, at_s)

    def want_again(self, at_s: float, retry_s: float) -> None:
        """The same, but not for ever again: whoever says so may be wrong."""
        self.want(max(at_s, self._asked_s + retry_s))

    def due_s(self, pace: Pace) -> float:
        """When to look next: at once if that was never done."""
        pause_s = pace.interval_s
        if self._failing_since_s is not None and self._is_known:
            pause_s = min(pause_s, pace.retry_s)
        if self.is_in_grace:
            pause_s = min(pause_s, pace.grace_s / 2)
        return min(self._asked_s + pause_s, self._wanted_s)

    @property
    def _is_known(self) -> bool:
        """Somebody should be there: the operator says so, or it was found not long ago."""
        since_s = self._failing_since_s
        return self.is_configured or (
            self.backend is not None and since_s is not None and self._asked_s < since_s + REMEMBERED_S
        )

    # --- what came of it --------------------------------------------------------------------

    def succeeded(self, backend: Backend, models: tuple[BackendModel, ...], *, asked_at: int) -> None:
        """The engine listed its models. What was asked before a job found it dead is no news."""
        if asked_at != self.deaths:
            return
        self.backend = backend
        self._know(models)
        self._healthy = True
        self._failing_since_s = None

    def failed(self, now_s: float, grace_s: float) -> None:
        """A probe failed. Its models stay until it has failed for `grace_s`: one hiccup is none."""
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        self._healthy = False
        if now_s - self._failing_since_s >= grace_s:
            self._know(())

    def reported_dead(self, now_s: float) -> None:
        """A job could not connect: no grace."""
        self._healthy = False
        self._know(())
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

    def _know(self, models: tuple[BackendModel, ...]) -> None:
        self._listed = models
        self._models = tuple(model for model in models if self._lets_through(model.model_id))

    def _lets_through(self, model_id: str) -> bool:
        return _matches(model_id, self.settings.models) and not _matches(model_id, self.settings.exclude)


def _matches(model_id: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model_id, glob) for glob in globs)
