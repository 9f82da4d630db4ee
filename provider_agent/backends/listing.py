"""What a server says of itself, read with care: any program may be behind a port. Opens no connection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from provider_agent.protocol.frames import LARGEST_COUNT, LONGEST_NAME

Item = Mapping[str, Any]
"""One model in a listing, as the engine spelled it."""


class Said(Protocol):
    """The part of a page that tells who answered."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Answers:
    """A server's answers to the questions that tell engines apart; None where there was none.

    Attributes:
        models: `/v1/models`, which nearly all have.
        tags: `/api/tags`, Ollama's listing.
        details: `/api/v0/models`, LM Studio's listing.
    """

    models: Said | None = None
    tags: Said | None = None
    details: Said | None = None

    def is_owned_by(self, *owners: str) -> bool:
        """Some model of `/v1/models` says that it belongs to one of them."""
        return any(item.get("owned_by") in owners for item in items(self.models, "data") or ())


def items(page: Said | None, member: str) -> tuple[Item, ...] | None:
    """The models in a listing; None if it is none.

    A list of objects under `member`. Ollama writes `null` for an empty one, and some gateways
    write the bare list.
    """
    value = page.value if page is not None and page.status == 200 else None  # noqa: PLR2004 - OK
    listed = value.get(member, ()) if isinstance(value, dict) else value
    if isinstance(value, dict) and member in value and listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        return None
    return tuple(listed)


def text(item: Item, *names: str) -> str:
    """The first of these members that is a text which fits a frame, else an empty one."""
    said = (item.get(name) for name in names)
    return next((each for each in said if isinstance(each, str) and 0 < len(each) <= LONGEST_NAME), "")


def positive(item: object, *names: str) -> int | None:
    """The first of these members that is a positive integer which fits a frame."""
    if not isinstance(item, Mapping):
        return None
    for name in names:
        value = item.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_COUNT:
            return value
    return None
