"""Asks an engine that has failed several times in a row a question of our own; knows no job.

It may have failed because of what one client asks. A short question, always the same, tells a broken engine
from an odd request. Nobody waits for it, no slot is taken for it, and no paid provider is asked.
"""

import asyncio
from collections.abc import Callable

from provider_agent.agent.breaker import Breaker
from provider_agent.agent.routing import Route
from provider_agent.agent.trial import Trial, Trials, Verdict, is_elsewhere, tried_first
from provider_agent.protocol.errors import ErrorCode
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)


class Prober:
    """See the module.

    Attributes:
        on_unreachable: told the name of a backend that a question could not reach.
    """

    def __init__(self, breaker: Breaker) -> None:
        """It is asked whenever a circuit of this breaker opens, which is told of a whole answer."""
        breaker.on_open = self.ask
        self.on_unreachable: Callable[[str], None] = lambda _: None
        self._breaker = breaker
        self._wanted: asyncio.Queue[tuple[Route, str, float]] = asyncio.Queue()

    def ask(self, route: Route, within_s: float) -> None:
        """Ask soon, and wait so long for the whole answer; never waits itself."""
        endpoint = tried_first(route.endpoints)
        if endpoint is not None and not is_elsewhere(route.backend):
            self._wanted.put_nowait((route, endpoint, within_s))

    async def run(self) -> None:
        """Ask whatever is wanted, for ever. What an engine does never ends it."""
        async with asyncio.TaskGroup() as questions:
            while True:
                questions.create_task(self._ask(*await self._wanted.get()))

    async def _ask(self, route: Route, endpoint: str, within_s: float) -> None:
        trial = Trial(route.backend, route.model.model_id, (), endpoint)
        try:
            result = await Trials(limit_s=within_s).ask(trial)
        except Exception:  # whatever an engine answers: the agent goes on without knowing
            log.exception("probe_crashed", backend=route.backend.name, upstream_model=route.model.model_id)
            return
        if result.verdict is Verdict.ANSWERED:
            self._breaker.vouch(route)
        elif result.code is ErrorCode.BACKEND_UNREACHABLE and self._breaker.minds(route):
            self.on_unreachable(route.backend.name)
