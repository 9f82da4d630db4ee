"""Dial, run a session, wait, again; knows neither handshake nor jobs, and `reconnect` is the judge."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from provider_agent.agent.reconnect import Backoff, SessionEnd, classify
from provider_agent.agent.waiting import Waiter, wait_until
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.channel import Socket
from provider_agent.transport.dialling import DialError

__all__ = ["Connector", "SessionEnd"]

_log = get_logger(__name__)


class Connector:
    """Keeps this agent connected.

    Attributes:
        dial: opens a socket; raises DialError.
        serve: runs a session on it to its end.
        jobs_wait_s: for how long yet there are jobs that a new session would save.
        on_dialled, on_ended: told the result of each dial, and the kind of each session's end.
        why: why there is no session, after the first try that failed or session that ended; else "".
    """

    def __init__(
        self,
        *,
        dial: Callable[[], Awaitable[Socket]],
        serve: Callable[[Socket], Awaitable[SessionEnd]],
        clock: Callable[[], float] = time.monotonic,
        wait: Waiter = wait_until,
        source: random.Random | None = None,
        jobs_wait_s: Callable[[], float] = lambda: 0.0,
        on_dialled: Callable[[str], None] = lambda _: None,
        on_ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._dial = dial
        self._serve = serve
        self._clock = clock
        self._wait = wait
        self._backoff = Backoff(source or random.Random())  # noqa: S311 - it spreads load and guards nothing
        self._jobs_wait_s = jobs_wait_s
        self._on_dialled = on_dialled
        self._on_ended = on_ended
        self.why = ""

    async def run(self, stop: asyncio.Event) -> int:
        """Try until `stop` is set or an end is final; gives the exit code.

        Whoever sets `stop` also ends the session that may be running: it is not cut short here.
        """
        while not stop.is_set():
            end = await self._try_once(stop)
            if end is None or stop.is_set():
                break
            verdict = classify(end)
            if end.accepted:
                self._on_ended(verdict.kind.value)
            if verdict.exit_code is not None:
                _log.error("gave_up", kind=verdict.kind, why=verdict.why, exit_code=verdict.exit_code)
                return verdict.exit_code
            self.why = verdict.why
            wait_s = self._backoff.next_wait_s(
                verdict, after_healthy=end.was_healthy, jobs_wait_s=self._jobs_wait_s()
            )
            _log.warning(
                "not_connected",
                kind=verdict.kind,
                why=verdict.why,
                tries=self._backoff.failures,
                session_s=round(end.lasted_s, 1),
                next_try_in_s=round(wait_s, 1),
            )
            await self._wait(wait_s, stop)
        return 0

    async def _try_once(self, stop: asyncio.Event) -> SessionEnd | None:
        """One dial and its session; None when `stop` came before the session began."""
        dialled = await self._dial_unless(stop)
        if dialled is None:
            return None
        if isinstance(dialled, DialError):
            self._on_dialled(dialled.kind)
            return SessionEnd(error=dialled)
        self._on_dialled("ok")
        if stop.is_set():
            await dialled.close(1000, "the agent is leaving")
            return None
        started_s = self._clock()
        end = await self._serve(dialled)
        return replace(end, lasted_s=self._clock() - started_s)

    async def _dial_unless(self, stop: asyncio.Event) -> Socket | DialError | None:
        """What came of a dial; None when `stop` cut it short."""
        async with asyncio.TaskGroup() as tasks:
            dialling = tasks.create_task(self._dialled())
            watching = tasks.create_task(_cancel_when(stop, dialling))
            await asyncio.wait((dialling,))
            watching.cancel()
        return None if dialling.cancelled() else dialling.result()

    async def _dialled(self) -> Socket | DialError:
        try:
            return await self._dial()
        except DialError as error:
            return error


async def _cancel_when(stop: asyncio.Event, task: asyncio.Task[Socket | DialError]) -> None:
    await stop.wait()
    task.cancel()
