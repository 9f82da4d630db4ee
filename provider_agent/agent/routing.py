"""Which backend serves a model and endpoint, and what is advertised: one table for both; calls no engine.

A model has a public name: its own, or an alias of the operator's. Globs decide over public
names, and a name that they do not let through has no row here, so it can neither be listed
nor executed.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice

import msgspec

from provider_agent.agent.circuit import Key
from provider_agent.backends.base import Backend, BackendModel
from provider_agent.backends.discovery import Catalog
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.features import in_common
from provider_agent.protocol.frames import MOST_MODELS, ModelOffer

EMBEDDING_ENDPOINTS = frozenset({"/v1/embeddings", "/api/embed"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides about models.

    Attributes:
        expose: globs of the public names that may be listed and executed.
        hide: globs of those that may not; wins over `expose`.
        aliases: public name -> the engine's name; an engine's own aliases go before these.
        price_of: what a million tokens of input, and of output, of a public name cost: integer
            micro-units of the operator's currency; 0 is free.
        max_concurrent: jobs at once over all backends.
        limits: glob of names -> jobs at once of all models that match it, over all backends; an alias
            counts as what it stands for, too.
    """

    expose: tuple[str, ...] = ("*",)
    hide: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    price_of: Callable[[str], tuple[int, int]] = lambda _: (0, 0)
    max_concurrent: int = 8
    limits: Mapping[str, int] = field(default_factory=dict)

    def lets_through(self, public_name: str) -> bool:
        return _matches(public_name, self.expose) and not _matches(public_name, self.hide)

    def globs_limiting(self, names: Collection[str]) -> tuple[str, ...]:
        """Those that hold for a model with these names, public or not."""
        return tuple(glob for glob in self.limits if any(fnmatchcase(name, glob) for name in names))


@dataclass(frozen=True, slots=True)
class Route:
    """One way to execute a model: this backend, under the engine's own name for it."""

    backend: Backend
    model: BackendModel

    @property
    def key(self) -> Key:
        """What its circuit is kept under."""
        return self.backend.name, self.model.model_id

    @property
    def endpoints(self) -> frozenset[str]:
        return self.model.endpoints & EMBEDDING_ENDPOINTS if self.model.is_embedding else self.model.endpoints

    def has_room_for_all(self, jobs: int) -> bool:
        """Whether it could take one more job, even if all of these ran there."""
        on_backend, with_model = self.backend.max_concurrent, self.model.max_concurrent
        return (on_backend is None or jobs < on_backend) and (with_model is None or jobs < with_model)

    def limit(self, otherwise: int) -> int:
        """Jobs at once that this route can take."""
        said = (self.backend.max_concurrent, self.model.max_concurrent, otherwise)
        return min(limit for limit in said if limit is not None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job is not run."""

    code: ErrorCode
    message: str
    retry_after_ms: int | None = None


class RoutingTable:
    """Public model name -> routes in the order of preference; immutable, rebuilt when the catalog changes.

    Attributes:
        offers: what is advertised of it.
        left_out: how many names have no row, since an agent offers no more.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        *,
        open_keys: Collection[Key] = frozenset(),
        unproven_keys: Collection[Key] = frozenset(),
    ) -> None:
        """Routes in `open_keys` offer no slots for now: jobs may wait for them at the coordinator.

        Neither they nor those in `unproven_keys` relieve an engine that stands by.
        """
        self._policy = policy
        self._open_keys = open_keys
        bad = {*open_keys, *unproven_keys}
        routes = {name: _on_duty(each, bad) for name, each in _routes(catalog, policy).items()}
        self.left_out = max(0, len(routes) - MOST_MODELS)
        self._routes = dict(islice(routes.items(), MOST_MODELS))
        self._fitting: dict[tuple[str, str], tuple[Route, ...]] = {}  # by model and endpoint, once asked for
        self.offers = tuple(self._offer(name) for name in sorted(self._routes))
        self.fingerprint = "sha256:" + hashlib.sha256(msgspec.json.encode(self.offers)).hexdigest()

    def _offer(self, name: str) -> ModelOffer:
        routes, policy = self._routes[name], self._policy
        input_per_1m, output_per_1m = policy.price_of(name)
        windows = [route.model.context_window for route in routes if route.model.context_window is not None]
        return ModelOffer(
            model_id=name,
            backend=routes[0].backend.kind,
            endpoints=tuple(sorted(frozenset[str]().union(*(route.endpoints for route in routes)))),
            max_concurrent=min(
                policy.max_concurrent,
                sum(
                    route.limit(policy.max_concurrent) for route in routes if route.key not in self._open_keys
                ),
                *(policy.limits[glob] for glob in self._globs_limiting(name)),
            ),
            context_window=min(windows, default=None),
            input_per_1m=input_per_1m,
            output_per_1m=output_per_1m,
            fingerprint=routes[0].model.fingerprint,
            warm=_is_warm(route for route in routes if route.key not in self._open_keys),
            features=in_common(route.model.features for route in routes),
        )

    def routes(self, model_id: str, endpoint: str) -> tuple[Route, ...] | Refusal:
        """All routes for a model and endpoint, or the permanent reason why there is none."""
        known = self._fitting.get((model_id, endpoint))
        if known is not None:
            return known
        routes = self._routes.get(model_id)
        if routes is None:
            return Refusal(ErrorCode.MODEL_NOT_LOADED, "no backend of this agent serves that model")
        fitting = tuple(route for route in routes if endpoint in route.endpoints)
        if not fitting:
            return Refusal(ErrorCode.UNSUPPORTED_ENDPOINT, "no backend with that model offers that endpoint")
        self._fitting[model_id, endpoint] = fitting
        return fitting

    def routes_named(self, globs: Iterable[str]) -> tuple[Route, ...]:
        """All ways to execute a model that has such a public name, each once."""
        wanted = tuple(globs)
        routes = (route for name in self._routes if _matches(name, wanted) for route in self._routes[name])
        return tuple({route.key: route for route in routes}.values())

    def is_at_limit(self, model_id: str, running: Iterable[Collection[str]]) -> bool:
        """Whether the operator allows no further job of this model beside these.

        `running` has the names of each one's model: the public one, and the engine's.
        """
        limits = self._policy.limits
        if not limits:
            return False
        counted = Counter(glob for names in running for glob in self._policy.globs_limiting(names))
        return any(counted[glob] >= limits[glob] for glob in self._globs_limiting(model_id))

    def _globs_limiting(self, model_id: str) -> tuple[str, ...]:
        """By its public name, and by those that engines call it."""
        upstream = (route.model.model_id for route in self._routes.get(model_id, ()))
        return self._policy.globs_limiting({model_id, *upstream})

    def __len__(self) -> int:
        return len(self._routes)


def with_room(
    routes: Iterable[Route], active: Callable[[Route], tuple[int, int]], *, untold: int
) -> tuple[Route, ...]:
    """The routes that can take one more job now, by priority, warm before cold, the least loaded first.

    Those that stand by come last: they are here because the others failed, and a job must try those again.
    An idle engine that has to load the model answers in minutes, a busy one with a free slot in seconds: so
    warmth goes before load. An engine that does not tell is not taken for cold.

    `active(route)` gives how many jobs run on the route's backend, and how many of them with its model. The
    load of one that tells no slots is reckoned as if it had as many as `untold`.
    """
    free: list[tuple[bool, int, bool, float, Route]] = []
    for route in routes:
        on_backend, with_model = active(route)
        limits = ((on_backend, route.backend.max_concurrent), (with_model, route.model.max_concurrent))
        told = [(jobs, limit) for jobs, limit in limits if limit is not None]
        if all(jobs < limit for jobs, limit in told):
            load = max((jobs / limit for jobs, limit in told), default=on_backend / untold)
            backend, is_cold = route.backend, route.model.is_loaded is False
            free.append((backend.standby, backend.priority, is_cold, load, route))
    return tuple(route for *_, route in sorted(free, key=lambda each: each[:4]))


def _routes(catalog: Catalog, policy: Policy) -> dict[str, tuple[Route, ...]]:
    found: dict[str, list[Route]] = {}
    for entry in catalog.entries:
        aliases = {**policy.aliases, **entry.backend.aliases}
        named: defaultdict[str, list[str]] = defaultdict(list)
        for alias, target in aliases.items():
            named[target].append(alias)
        for model in entry.models:
            own = () if model.model_id in aliases else (model.model_id,)  # a name that the operator took
            names = (*own, *named.get(model.model_id, ()))
            for name in filter(policy.lets_through, names):
                found.setdefault(name, []).append(Route(entry.backend, model))
    return {name: tuple(sorted(routes, key=lambda r: r.backend.priority)) for name, routes in found.items()}


def _on_duty(routes: tuple[Route, ...], bad: Collection[Key]) -> tuple[Route, ...]:
    """Without those that stand by, while another engine has the model and does not keep failing."""
    regular = tuple(route for route in routes if not route.backend.standby)
    return regular if any(route.key not in bad for route in regular) else routes


def _is_warm(routes: Iterable[Route]) -> bool | None:
    """Whether one of them has the model in memory; None when none has, and none says that it has not."""
    said = {route.model.is_loaded for route in routes}
    return True if True in said else False if False in said else None


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
