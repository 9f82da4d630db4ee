"""Which provider gets a job; pure, and knows neither clients nor sockets."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from provider_agent.coordinator.fleet import Provider, endpoints_of
from provider_agent.protocol.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody serves this, but has no room now; with `at_most_s`, nobody does, but may by then."""

    at_most_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody serves this, and waiting would not help; `message` is one sentence for the client."""

    code: ErrorCode
    message: str


WAIT = Wait()


def choose(
    model_id: str,
    endpoint: str,
    providers: Iterable[Provider],
    excluded: Collection[str] = frozenset(),
    *,
    size_bytes: int = 0,
    back_within_s: float | None = None,
) -> Provider | Wait | Refusal:
    """The provider with a free slot that is likely to answer first, or why there is none.

    1. No provider has the model, or none offers it at this endpoint: a refusal; or a wait, where the
       model may be back (`Departed.back_within_s`).
    2. Those that do take no request of this size: a refusal.
    3. Those that do have all failed this job before (`excluded` holds their ids): a refusal.
    4. Nobody of the rest has a free slot, or all are leaving or away: wait.
    5. One where the model is in memory, or that does not say, before one that would load it first: that
       takes minutes, a busy neighbour costs a part of the speed. A cold one is chosen once those are full.
       Then the one with the most free slots, then the one that was chosen least recently.
    """
    having = [provider for provider in providers if model_id in provider.offers]
    if not having:  # 1
        return _missing(model_id, back_within_s)
    serving = [provider for provider in having if endpoint in provider.offers[model_id].endpoints]
    if not serving:
        offered = ", ".join(endpoints_of(provider.offers[model_id] for provider in having))
        message = (
            f"the model {model_id[:128]!r} is not served at {endpoint}, only at {offered or 'no endpoint'}"
        )
        return Refusal(ErrorCode.UNSUPPORTED_ENDPOINT, message)
    taking = [each for each in serving if each.max_job_bytes is None or size_bytes <= each.max_job_bytes]
    if not taking:  # 2
        return Refusal(ErrorCode.REQUEST_TOO_LARGE, "this request is too large for all agents of its model")
    candidates = [provider for provider in taking if provider.provider_id not in excluded]
    if not candidates:  # 3
        return Refusal(ErrorCode.BACKEND_ERROR, "every agent that serves this model has failed this request")
    best: Provider | None = None
    best_rank = (True, 0, 0)
    for each in candidates:
        free = each.free_slots_for(model_id)
        if free:
            rank = (each.offers[model_id].warm is False, -free, each.last_chosen)  # 5
            if best is None or rank < best_rank:
                best, best_rank = each, rank
    return WAIT if best is None else best  # 4


def _missing(model_id: str, back_within_s: float | None) -> Wait | Refusal:
    if back_within_s is None:
        return Refusal(ErrorCode.MODEL_NOT_LOADED, f"no agent serves the model {model_id[:128]!r}")
    return Wait(back_within_s) if back_within_s > 0 else away(model_id)


def away(model_id: str) -> Refusal:
    """Nobody serves it now, and whoever waited for it has waited long enough."""
    message = f"no agent serves the model {model_id[:128]!r} now: try again later"
    return Refusal(ErrorCode.AGENT_SHUTDOWN, message)
