"""Which models are in memory, and until when; knows no engine and no request.

Everything is told from the clock: loading begins with the first request for a model and goes on though that
one leaves; a model that nobody uses any more goes when its time is over.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from provider_agent.simulator.pacing import Clock, Sleep

State = Literal["unloaded", "loading", "loaded"]


@dataclass(slots=True)
class _Stay:
    """One model's time in memory.

    Attributes:
        ready_s: when it is loaded.
        ends_s: when it goes, unless somebody uses it.
        users: how many use it now, or wait for it.
    """

    ready_s: float
    ends_s: float
    users: int = 0


class Memory:
    """The models of one engine.

    Args:
        load_s: how long loading takes; with 0 all models are there from the start.
        keep_s: how long a model stays after its last use, unless that says otherwise.
    """

    def __init__(
        self, models: Sequence[str], *, load_s: float, keep_s: float, clock: Clock, sleep: Sleep
    ) -> None:
        self._load_s = load_s
        self._keep_s = keep_s
        self._clock = clock
        self._sleep = sleep
        self._stays = {} if load_s else {model: _Stay(clock(), math.inf) for model in models}

    def state(self, model: str) -> State:
        stay = self._stay(model)
        if stay is None:
            return "unloaded"
        return "loaded" if self._clock() >= stay.ready_s else "loading"

    def has(self, model: str) -> bool:
        return self.state(model) == "loaded"

    def left_s(self, model: str) -> float:
        """How long it stays if nobody asks for it any more; infinite for good."""
        stay = self._stay(model)
        return max(0.0, stay.ends_s - self._clock()) if stay is not None else 0.0

    @asynccontextmanager
    async def using(self, model: str, keep_s: float | None = None) -> AsyncIterator[None]:
        """Wait until it is loaded, and hold it inside the block; `keep_s` is how long it stays after that."""
        stay = self._stay(model)
        if stay is None:
            stay = self._stays[model] = _Stay(self._clock() + self._load_s, math.inf)
        stay.users += 1
        try:
            while (wait_s := stay.ready_s - self._clock()) > 0:
                await self._sleep(wait_s)
            yield
        finally:
            stay.users -= 1
            stay.ends_s = max(self._clock(), stay.ready_s) + (self._keep_s if keep_s is None else keep_s)

    def unload(self, model: str) -> None:
        """It goes as soon as nobody uses it."""
        stay = self._stay(model)
        if stay is not None:
            stay.ends_s = self._clock()

    def _stay(self, model: str) -> _Stay | None:
        stay = self._stays.get(model)
        is_over = stay is not None and not stay.users and stay.ends_s <= self._clock()
        return None if is_over else stay
