"""Which model clients mean by a name; knows no request."""

from collections.abc import Callable

from provider_agent.coordinator.fleet import Fleet
from provider_agent.protocol.frames import ModelOffer

LATEST = ":latest"
"""The tag that clients leave out, as Ollama lets them."""


def meant(fleet: Fleet, name: str, prefers: Callable[[ModelOffer], bool] = lambda _: True) -> str | None:
    """The model of this name, or else of this name and `:latest`; None when neither was ever heard of.

    First those count that somebody offers in the way that the door `prefers`, then all that somebody offers,
    then those that somebody has offered lately.
    """
    names = (name, name + LATEST)
    offered = [known for known in names if any(True for _ in fleet.having(known))]
    preferred = [each for each in offered if any(prefers(one.offers[each]) for one in fleet.having(each))]
    lately = [known for known in names if fleet.back_within_s(known) is not None]
    return next(iter(preferred + offered + lately), None)
