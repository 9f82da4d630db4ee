"""What is measured of an endpoint, and in which order; knows no HTTP and no terminal.

1. A first answer, which may load the model; it is not counted.
2. Answers one after the other, then so many at once.
3. Leaving: so many clients go at the same moment, and the next request's first token is awaited. The
   clients leave in the middle of a stream, before its first token, or while waiting for an unstreamed answer.
4. A reader stalls: is another stream slowed down, and does the stalled one get its answer in the end?
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from provider_agent.cli.bench_client import Endpoint, EndpointFailed, Heard, Stall

QUIET_FACTOR, QUIET_MORE_S = 1.5, 0.05
"""An endpoint is as fast as undisturbed while its first token is within these."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is asked for.

    Attributes:
        streams: clients at once.
        tokens: of each answer that is waited for.
        long_tokens: of those that are not: enough that an endpoint which goes on with them is seen to.
        recovery_limit_s: how long an endpoint that was left is watched.
    """

    streams: int = 8
    runs: int = 3
    tokens: int = 64
    long_tokens: int = 1024
    recovery_limit_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Of answers, one after the other or at once; in milliseconds, and tokens a second of each."""

    streams: int
    first_token_ms: float | None
    slowest_first_token_ms: float | None
    tokens_per_s: float | None
    total_tokens_per_s: float | None
    failed: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Clients that left, and what the next one saw.

    Attributes:
        next_first_token_ms: of a request made at that moment; None when it failed.
        recovered_ms: from that moment to a request that was as fast as undisturbed; None when none was.
    """

    when: str
    left: int
    next_first_token_ms: float | None
    recovered_ms: float | None


@dataclass(frozen=True, slots=True)
class Stalled:
    """A reader that stalled, and what another one had meanwhile.

    Attributes:
        other: of the other one.
        stalled_s: how long nothing was read.
        is_whole: the stalled answer came whole, once it was read again; `failure` says why it did not.
    """

    other: Speed
    stalled_s: float
    tokens: int
    is_whole: bool
    failure: str | None = None


@dataclass(slots=True)
class Findings:
    """All of it, as far as it has come."""

    url: str
    model: str
    warm_up: Speed | None = None
    speeds: list[Speed] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    stalled: Stalled | None = None


class Plan:
    """Measures one model of one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        effort: Effort,
        *,
        on_step: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._effort = effort
        self._on_step = on_step
        self._clock = clock

    async def run(self, url: str) -> Findings:
        """Raises EndpointFailed when there is nothing to measure: not one answer came."""
        effort, findings = self._effort, Findings(url, self._model)
        self._on_step("first answer")
        findings.warm_up = _speed([await self._endpoint.hear(self._model, effort.tokens)], 1)
        self._on_step("1 stream")
        alone = await self._one_by_one()
        findings.speeds.append(alone)
        if effort.streams > 1:
            self._on_step(f"{effort.streams} streams")
            findings.speeds.append(await self._at_once())
        for when, leave in (
            ("streaming", self._leave_streaming),
            ("before the first token", self._leave_early),
            ("not streamed", self._leave_unstreamed),
        ):
            self._on_step(f"leaving: {when}")
            await leave(alone)
            findings.left.append(await self._next_after(when, alone))
        self._on_step("a stalled reader")
        findings.stalled = await self._beside_a_stalled_reader()
        return findings

    # --- speed ------------------------------------------------------------------------------

    async def _one_by_one(self) -> Speed:
        heard = [
            await self._endpoint.hear(self._model, self._effort.tokens) for _ in range(self._effort.runs)
        ]
        return _speed(heard, 1)

    async def _at_once(self) -> Speed:
        start_s = self._clock()
        answers = [self._endpoint.hear(self._model, self._effort.tokens) for _ in range(self._effort.streams)]
        ended = await asyncio.gather(*answers, return_exceptions=True)
        heard = [one for one in ended if isinstance(one, Heard)]
        failures = [one for one in ended if isinstance(one, BaseException)]
        for failure in failures:
            if not isinstance(failure, EndpointFailed):
                raise failure
        return _speed(heard, self._effort.streams, self._clock() - start_s, failures)

    # --- leaving ----------------------------------------------------------------------------

    async def _leave_streaming(self, alone: Speed) -> None:
        del alone
        async with asyncio.TaskGroup() as clients:
            for _ in range(self._effort.streams):
                clients.create_task(self._hear_three())

    async def _hear_three(self) -> None:
        with suppress(EndpointFailed):  # no room for so many is an answer, too
            pieces = self._endpoint.pieces(self._model, self._effort.long_tokens, Heard())
            async for number in pieces:
                if number == 3:  # noqa: PLR2004 - it is surely in the middle then
                    break
            await pieces.aclose()  # type: ignore[attr-defined]

    async def _leave_early(self, alone: Speed) -> None:
        """Half of the time that a first token takes."""
        await self._leave_after((alone.first_token_ms or 0.0) / 2000, self._hear_whole)

    async def _leave_unstreamed(self, alone: Speed) -> None:
        """Twice the time that a first token takes: the engine is at work then."""
        await self._leave_after((alone.first_token_ms or 0.0) / 500, self._wait_whole)

    async def _leave_after(self, seconds: float, ask: Callable[[], object]) -> None:
        tasks = [asyncio.ensure_future(ask()) for _ in range(self._effort.streams)]  # type: ignore[call-overload]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear_whole(self) -> None:
        await self._endpoint.hear(self._model, self._effort.long_tokens)

    async def _wait_whole(self) -> None:
        await self._endpoint.wait_unstreamed(self._model, self._effort.long_tokens)

    async def _next_after(self, when: str, alone: Speed) -> Left:
        """Ask at once, and again until it is as fast as before."""
        left_s = self._clock()
        quiet_s = (alone.first_token_ms or 0.0) / 1000 * QUIET_FACTOR + QUIET_MORE_S
        after_s = 0.0
        first_s = next_s = await self._first_token_s()
        while first_s is None or first_s > quiet_s:
            after_s = self._clock() - left_s
            if after_s > self._effort.recovery_limit_s:
                return Left(when, self._effort.streams, _ms(next_s), None)
            first_s = await self._first_token_s()
        return Left(when, self._effort.streams, _ms(next_s), after_s * 1000)

    async def _first_token_s(self) -> float | None:
        with suppress(EndpointFailed):
            return (await self._endpoint.hear(self._model, 1)).first_token_s
        return None

    # --- a stalled reader -------------------------------------------------------------------

    async def _beside_a_stalled_reader(self) -> Stalled:
        """One reader takes nothing after its first token, while others are served one after the other."""
        stall, heard, effort = Stall(), Heard(), self._effort
        task = asyncio.ensure_future(
            self._endpoint.hear_stalled(self._model, effort.long_tokens, stall, heard)
        )
        try:
            begun = asyncio.ensure_future(stall.begun.wait())
            await asyncio.wait({begun, task}, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
            stalled_from_s = self._clock()
            others = [await self._endpoint.hear(self._model, effort.tokens) for _ in range(effort.runs)]
            stalled_s = self._clock() - stalled_from_s
            stall.over.set()
            failure = await _failure_of(task)
        finally:
            task.cancel()
        return Stalled(_speed(others, 1), stalled_s, heard.tokens, heard.is_whole, failure)


async def _failure_of(task: "asyncio.Future[None]") -> str | None:
    try:
        await task
    except EndpointFailed as failure:
        return str(failure)
    return None


def _speed(
    heard: Sequence[Heard], streams: int, took_s: float | None = None, failures: Sequence[BaseException] = ()
) -> Speed:
    firsts = sorted(one.first_token_s for one in heard if one.first_token_s is not None)
    rates = [one.tokens_per_s for one in heard if one.tokens_per_s is not None]
    return Speed(
        streams,
        _ms(statistics.median(firsts) if firsts else None),
        _ms(firsts[-1] if firsts else None),
        statistics.median(rates) if rates else None,
        sum(one.tokens for one in heard) / took_s if took_s else None,
        len(failures),
        str(failures[0]) if failures else None,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
