"""Tries what would be offered, and puts the results into plain values; knows no family of engines."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from provider_agent.agent.config import AgentConfig
from provider_agent.agent.routing import RoutingTable
from provider_agent.agent.trial import Result, Trial, Trials, Verdict, has_failed, plan
from provider_agent.protocol.errors import ErrorCode

MS_PER_S = 1000
NAMED_AT_ONCE = 5


class Wish(NamedTuple):
    """What of the offer is tried, and for how long each answer is waited for.

    Attributes:
        model: glob; None for all of them.
        paid: engines of others, too.
    """

    model: str | None
    paid: bool
    limit_s: float


class NothingToTryError(Exception):
    """The glob fits no model that would be offered; the text is one sentence."""


async def try_offer(
    config: AgentConfig, table: RoutingTable, wish: Wish, stop: asyncio.Event
) -> tuple[Result, ...]:
    """One after the other until `stop`, with a line on the terminal about the one that is waited for.

    Raises NothingToTryError.
    """
    planned = plan(table, [wish.model or "*"])
    if not planned and wish.model is not None:
        raise NothingToTryError(f"no model that would be offered is called {wish.model}; {_offered(table)}")
    with Console(stderr=True).status("") as status:
        begun = count(1)
        trials = Trials(
            limit_s=wish.limit_s,
            asks_elsewhere=wish.paid,
            max_output_tokens=config.limits.max_output_tokens,
            on_trial=lambda trial: status.update(_waiting(trial, f"{next(begun)} of {len(planned)}")),
        )
        got = await _until(stop, trials.run(planned))
    left = (
        Result(trial, Verdict.UNTRIED, code=ErrorCode.CANCELLED, problem="you stopped before its answer")
        for trial in planned[len(got) :]
    )
    return *got, *left


def all_answered(results: Iterable[Result]) -> bool:
    """Nothing has failed, and nobody stopped it before the end."""
    known = tuple(results)
    return not has_failed(known) and all(result.code is not ErrorCode.CANCELLED for result in known)


async def _until(stop: asyncio.Event, results: AsyncIterator[Result]) -> list[Result]:
    """What there is by then."""
    got: list[Result] = []

    async def collect() -> None:
        async for result in results:
            got.append(result)  # noqa: PERF401 - kept when this is cancelled

    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(collect()), group.create_task(stop.wait())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return got


def _offered(table: RoutingTable) -> str:
    names = [offer.model_id for offer in table.offers]
    shown = ", ".join(names[:NAMED_AT_ONCE]) or "none"
    more = len(names) - NAMED_AT_ONCE
    return f"there are: {shown}" + (f" and {more} more" if more > 0 else "")


def _waiting(trial: Trial, where: str) -> Text:
    return Text(f"{where}: {trial.backend.name}, {trial.model}, {trial.endpoint}", "dim", overflow="ellipsis")


def as_values(results: Iterable[Result]) -> list[Mapping[str, Any]]:
    """For the findings: times in ms; None where nothing was measured."""
    return [
        {
            "backend": result.trial.backend.name,
            "model": result.trial.model,
            "offered_as": list(result.trial.names),
            "endpoint": result.trial.endpoint,
            "verdict": result.verdict.value,
            "first_byte_ms": _ms(result.first_byte_s),
            "duration_ms": _ms(result.duration_s),
            "output_tokens": result.output_tokens,
            "tokens_per_s": None if result.tokens_per_s is None else round(result.tokens_per_s, 1),
            "code": None if result.code is None else result.code.value,
            "problem": result.problem or None,
            "remedy": result.remedy or None,
        }
        for result in results
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * MS_PER_S, 1)
