"""Which models are to be loaded, or kept in memory, now; pure, and told what their engines say.

A model that was loaded here and is found unloaded soon after, again and again, is left alone for a while:
more is wanted than fits into memory, and an engine that loads in a circle does nothing else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from provider_agent.agent.circuit import Key
from provider_agent.agent.routing import Route
from provider_agent.backends.base import BackendModel

CHECK_S: Final = 30.0
"""How often a model that is in memory is looked after: some engines forget it after minutes."""

FIRST_RETRY_S: Final = 30.0
LONGEST_RETRY_S: Final = 1800.0

SETTLE_S: Final = 60.0
"""For so long after a load the engine may be seen as it was before."""

SOON_S: Final = 180.0
"""Unloaded after that, a model was idle; before, something else needed its memory."""

MOST_LOSSES: Final = 3
PAUSE_S: Final = 1800.0


@dataclass(slots=True)
class _Care:
    """What was done for one model of one engine, and what became of it.

    Attributes:
        is_settled: since it was loaded here, the engine has said that it is.
        losses: how often in a row it was unloaded soon after.
    """

    not_before_s: float = -math.inf
    failures: int = 0
    reason: str = ""
    loaded_at_s: float | None = None
    is_settled: bool = False
    losses: int = 0

    def look(self, model: BackendModel, now_s: float) -> bool:
        """Take note of what its engine says; whether that makes us leave it alone for a while."""
        if self.loaded_at_s is None:
            return False
        passed_s = now_s - self.loaded_at_s
        if model.is_loaded is not False:
            self.is_settled = True
            self.losses = self.losses if passed_s < SOON_S else 0
            return False
        if not self.is_settled and passed_s < SETTLE_S:
            return False
        self.loaded_at_s = None
        self.losses = self.losses + 1 if passed_s < SOON_S else 0
        if self.losses < MOST_LOSSES:
            return False
        self.losses -= 1  # after the pause, one more is enough
        self.not_before_s = now_s + PAUSE_S
        return True

    def is_due(self, model: BackendModel, now_s: float) -> bool:
        """Not while its engine is seen as it was before the load."""
        is_late_news = model.is_loaded is False and self.loaded_at_s is not None
        return self.not_before_s <= now_s and not is_late_news


class Plan(NamedTuple):
    """What there is to do now.

    Attributes:
        due: to be loaded or kept, in this order.
        given_up: those that are left alone from now on, for `PAUSE_S`.
    """

    due: tuple[Route, ...]
    given_up: tuple[Route, ...]


class Warmth:
    """See the module."""

    def __init__(self) -> None:
        self._cares: dict[Key, _Care] = {}

    def plan(self, wanted: Sequence[Route], now_s: float) -> Plan:
        """`wanted` are all that shall be in memory, as they are known now; the others are forgotten."""
        self._cares = {route.key: self._cares.get(route.key) or _Care() for route in wanted}
        given_up = [route for route in wanted if self._care(route).look(route.model, now_s)]
        due = [route for route in wanted if self._care(route).is_due(route.model, now_s)]
        return Plan(tuple(due), tuple(given_up))

    def succeeded(self, route: Route, now_s: float) -> bool:
        """The engine did what it was asked; whether that loaded the model."""
        care, was_cold = self._care(route), route.model.is_loaded is False
        care.failures, care.reason, care.not_before_s = 0, "", now_s + CHECK_S / 2
        if was_cold:
            care.loaded_at_s, care.is_settled = now_s, False
        return was_cold

    def failed(self, route: Route, reason: str, now_s: float) -> float | None:
        """It did not. How long it is until the next try, unless that was said for the same reason before."""
        care = self._care(route)
        pause_s = min(FIRST_RETRY_S * 2**care.failures, LONGEST_RETRY_S)
        care.failures, care.not_before_s = min(care.failures + 1, 16), now_s + pause_s
        is_news, care.reason = reason != care.reason, reason
        return pause_s if is_news else None

    def forget(self) -> None:
        """The operator has changed something: what was held against a model may not hold any more."""
        self._cares = {}

    def _care(self, route: Route) -> _Care:
        return self._cares.setdefault(route.key, _Care())
