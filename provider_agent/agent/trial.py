"""Tries what is offered: one short request to each engine, model and endpoint; knows no job and no terminal.

One at a time, over all engines: those of one machine share its memory, and a measurement that another
one disturbs is none. The endpoints of a model follow each other, so that it is loaded once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from provider_agent.agent.routing import Refusal, RoutingTable
from provider_agent.backends.base import (
    AuthRejected,
    Backend,
    BackendError,
    BackendLoading,
    BackendUnreachable,
    BadRequest,
    Call,
    EndpointUnsupported,
    ModelNotFound,
    RateLimited,
    StreamFailed,
    StreamTruncated,
)
from provider_agent.protocol.errors import ErrorCode

MOST_TOKENS: Final = 16
"""Of one answer: speed needs more than one token, and OpenAI's `/v1/responses` takes no smaller limit."""

_SHORTEST_S: Final = 0.002
"""Of an answer after its first byte: what takes less was sent all at once, whatever the pieces."""

_PROMPT: Final = "Count from one to twenty in words."
_MESSAGES: Final = [{"role": "user", "content": _PROMPT}]
_NATIVE: Final[dict[str, Any]] = {"stream": True, "options": {"num_predict": MOST_TOKENS}}

_BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": _MESSAGES, "max_tokens": MOST_TOKENS, "stream": True},
    "/v1/completions": {"prompt": _PROMPT, "max_tokens": MOST_TOKENS, "stream": True},
    "/v1/responses": {"input": _PROMPT, "max_output_tokens": MOST_TOKENS, "stream": True},
    "/v1/messages": {"messages": _MESSAGES, "max_tokens": MOST_TOKENS, "stream": True},
    "/api/chat": {"messages": _MESSAGES, **_NATIVE},
    "/api/generate": {"prompt": _PROMPT, **_NATIVE},
    "/v1/embeddings": {"input": _PROMPT},
    "/api/embed": {"input": _PROMPT},
    "/v1/rerank": {"query": _PROMPT, "documents": ["one two three", "apples and pears"]},
}
"""What is asked, in this order; an endpoint that is not here is not tried."""

_ORDER: Final = {endpoint: place for place, endpoint in enumerate(_BODIES)}

_LOCAL_NAMES: Final = (".local", ".localhost", ".lan", ".home.arpa", ".internal")


class Verdict(StrEnum):
    """What came of a trial."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The engine does not do this for this model; it may well do the rest."""
    FAILED = "failed"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to ask.

    Attributes:
        model: the engine's own name of it.
        names: under which it is offered.
    """

    backend: Backend
    model: str
    names: tuple[str, ...]
    endpoint: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; measured is only what was answered.

    Attributes:
        tokens_per_s: from the first byte on; None where the engine counts no tokens, or sent all at once.
        problem, remedy: one sentence each, or nothing.
    """

    trial: Trial
    verdict: Verdict
    first_byte_s: float | None = None
    duration_s: float | None = None
    output_tokens: int | None = None
    tokens_per_s: float | None = None
    code: ErrorCode | None = None
    problem: str = ""
    remedy: str = ""


def plan(table: RoutingTable, globs: Iterable[str] = ("*",)) -> tuple[Trial, ...]:
    """What there is to try of an offer: each engine's model and endpoint once, whatever its names.

    `globs` are of the names that are offered, or of the engine's own.
    """
    wanted = tuple(globs)
    names: dict[tuple[str, str, str], list[str]] = {}
    backends: dict[str, Backend] = {}
    for offer in table.offers:
        for endpoint in offer.endpoints:
            routes = table.routes(offer.model_id, endpoint)
            for route in () if isinstance(routes, Refusal) else routes:
                backends.setdefault(route.backend.name, route.backend)
                names.setdefault((route.backend.name, route.model.model_id, endpoint), []).append(
                    offer.model_id
                )
    trials = (
        Trial(backends[backend], model, tuple(known), endpoint)
        for (backend, model, endpoint), known in names.items()
        if _matches((model, *known), wanted)
    )
    return tuple(sorted(trials, key=_place))


def tried_first(endpoints: Collection[str]) -> str | None:
    """Which of these endpoints of a model tells most; None if none of them can be tried."""
    return next((endpoint for endpoint in _BODIES if endpoint in endpoints), None)


def _place(trial: Trial) -> tuple[int, str, str, int]:
    """The operator's order of engines, then the models of each, then their endpoints."""
    endpoint = _ORDER.get(trial.endpoint, len(_ORDER))
    return trial.backend.priority, trial.backend.name, trial.model, endpoint


def is_elsewhere(backend: Backend) -> bool:
    """Whether an engine is somebody else's: what it answers may have to be paid.

    By what the operator calls it, and by an address beyond the own network.
    """
    if backend.kind == "remote":
        return True
    host = urlsplit(backend.url).hostname or ""
    try:
        return ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return "." in host and not host.rstrip(".").endswith(_LOCAL_NAMES)


def has_failed(results: Iterable[Result]) -> bool:
    """Whether something is wrong with an engine: a failure, or a model that refused all it was asked."""
    verdicts: dict[tuple[str, str], set[Verdict]] = {}
    for result in results:
        key = result.trial.backend.name, result.trial.model
        verdicts.setdefault(key, set()).add(result.verdict)
    return any(
        Verdict.FAILED in each or (Verdict.REFUSED in each and Verdict.ANSWERED not in each)
        for each in verdicts.values()
    )


@dataclass(slots=True)
class Trials:
    """Asks.

    Attributes:
        limit_s: for each whole answer.
        asks_elsewhere: engines of others are tried, too.
        max_output_tokens: the operator's own limit, as jobs have it.
        on_trial: told which one begins.
    """

    limit_s: float
    asks_elsewhere: bool = False
    max_output_tokens: int | None = None
    clock: Callable[[], float] = time.monotonic
    on_trial: Callable[[Trial], None] = lambda _trial: None
    _gone: set[str] = field(default_factory=set)
    _slow: set[tuple[str, str]] = field(default_factory=set)
    _served: set[tuple[str, str]] = field(default_factory=set)

    async def run(self, trials: Iterable[Trial]) -> AsyncIterator[Result]:
        """One after the other; what would only take the same time limit once more is left out."""
        for trial in trials:
            why_not = self._why_not(trial)
            if why_not:
                yield Result(trial, Verdict.UNTRIED, problem=why_not)
            else:
                self.on_trial(trial)
                yield await self.ask(trial)

    def _why_not(self, trial: Trial) -> str:
        if trial.endpoint not in _BODIES:
            return "there is no trial of that endpoint"
        if is_elsewhere(trial.backend) and not self.asks_elsewhere:
            return "the engine is not your own, and may charge for answers: add --paid to try it"
        if trial.backend.name in self._gone:
            return "the engine was gone by then"
        if (trial.backend.name, trial.model) in self._slow:
            return "the model had not answered in time before"
        return ""

    async def ask(self, trial: Trial) -> Result:
        """What comes of this one, at an endpoint that can be tried."""
        meter = _Meter(self.clock)
        call = Call(
            endpoint=trial.endpoint,
            model=trial.model,
            body=msgspec.json.encode(_BODIES[trial.endpoint]),
            stream=bool(_BODIES[trial.endpoint].get("stream")),
            first_byte_timeout_s=2 * self.limit_s,  # ours is the one that ends it
            idle_timeout_s=2 * self.limit_s,
            max_output_tokens=self.max_output_tokens,
        )
        try:
            async with asyncio.timeout(self.limit_s), trial.backend.open(call) as reply:
                await reply.relay(meter.take)
                self._served.add((trial.backend.name, trial.model))
                return meter.result(trial, reply.usage.output_tokens)
        except TimeoutError:
            self._slow.add((trial.backend.name, trial.model))
            return _too_late(trial, self.limit_s, has_begun=bool(meter.pieces))
        except BackendError as error:
            if isinstance(error, BackendUnreachable):
                self._gone.add(trial.backend.name)
            if isinstance(error, ModelNotFound) and (trial.backend.name, trial.model) in self._served:
                error = EndpointUnsupported("the engine has no such endpoint for this model")
            return _judged(trial, error)


class _Meter:
    """Watches one answer come."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = self._last_s = self._first_s = clock()
        self.pieces = 0

    def take(self, _data: bytes) -> None:
        self._last_s = self._clock()
        if not self.pieces:
            self._first_s = self._last_s
        self.pieces += 1

    def result(self, trial: Trial, output_tokens: int | None) -> Result:
        passed_s = self._last_s - self._first_s
        is_measured = output_tokens is not None and output_tokens > 1 and passed_s >= _SHORTEST_S
        return Result(
            trial,
            Verdict.ANSWERED,
            first_byte_s=self._first_s - self._began_s,
            duration_s=self._clock() - self._began_s,
            output_tokens=output_tokens if _BODIES[trial.endpoint].get("stream") else None,
            tokens_per_s=((output_tokens or 0) - 1) / passed_s if is_measured else None,
        )


# --- what is wrong, in words -------------------------------------------------------------

_REFUSALS: Final = (BadRequest, ModelNotFound, EndpointUnsupported)

_SWITCHES: Final = {
    ("llamacpp", "/v1/embeddings"): "start llama-server with --embeddings to have it",
    ("llamacpp", "/v1/rerank"): "start llama-server with --reranking to have it",
}

_REMEDIES: Final[dict[type[BackendError], str]] = {
    BackendUnreachable: "see whether it still runs, and what it logged last",
    AuthRejected: "give the backend the right api_key_env or api_key_file",
    ModelNotFound: "load the model there, or put it into models.hide",
    EndpointUnsupported: "a job for it is refused; nothing else is wrong with the model",
    BadRequest: "if jobs shall not come for it, put the model into models.hide",
    RateLimited: "wait, and try again",
    BackendLoading: "try again once the engine is ready",
    StreamTruncated: "the engine may have crashed or run out of memory: see its log",
    StreamFailed: "see the engine's log",
}


def _judged(trial: Trial, error: BackendError) -> Result:
    remedy = _REMEDIES.get(type(error), "see the engine's log")
    if isinstance(error, EndpointUnsupported):
        remedy = _SWITCHES.get((trial.backend.kind, trial.endpoint), remedy)
    verdict = Verdict.REFUSED if isinstance(error, _REFUSALS) else Verdict.FAILED
    return Result(trial, verdict, code=error.code, problem=error.message, remedy=remedy)


def _too_late(trial: Trial, limit_s: float, *, has_begun: bool) -> Result:
    if has_begun:
        problem = f"the answer began, but was not whole within {limit_s:g} s"
        remedy = "the engine is very slow or stuck: see its log"
        return Result(trial, Verdict.FAILED, code=ErrorCode.BACKEND_TIMEOUT, problem=problem, remedy=remedy)
    problem = f"not one byte came within {limit_s:g} s"
    remedy = "a large model may still be loading: try again, or wait longer with --timeout"
    return Result(trial, Verdict.FAILED, code=ErrorCode.FIRST_BYTE_TIMEOUT, problem=problem, remedy=remedy)


def _matches(names: Iterable[str], globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
