"""What a server says of itself, read with care: any program may be behind a port. Opens no connection."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from provider_agent.protocol.fields import LARGEST_COUNT, LONGEST_NAME
from provider_agent.protocol.frames import MOST_MODELS

Item = Mapping[str, Any]
"""One model in a listing, as the engine spelled it."""

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators and changes of direction, which would act on a terminal or a page; and
lone surrogates, which UTF-8 cannot hold."""

_SHOWN_CHARACTERS = 80


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
        tags: `/api/tags`, Ollama's listing, which others imitate.
        details: `/api/v0/models`, LM Studio's listing.
        info: `/info`, TGI's.
        localai: `/.well-known/localai.json`; LocalAI answers it even to those without a key.
        system: `/system`, the same from a LocalAI before it had that.
        api: `/openapi.json`, the description that Jan and many Python servers give of themselves.
    """

    models: Said | None = None
    tags: Said | None = None
    details: Said | None = None
    info: Said | None = None
    localai: Said | None = None
    system: Said | None = None
    api: Said | None = None

    def is_owned_by(self, *owners: str) -> bool:
        """Some model of `/v1/models` says that it belongs to one of them."""
        return any(item.get("owned_by") in owners for item in items(self.models, "data") or ())

    @property
    def is_localai(self) -> bool:
        """It shows what only LocalAI has; beside that it imitates Ollama."""
        has_both = {"backends", "loaded_models"} <= said_by(self.system).keys()
        return has_both or "endpoints" in said_by(self.localai)


QUESTIONS: Final[Mapping[str, str]] = {
    "tags": "/api/tags",
    "details": "/api/v0/models",
    "info": "/info",
    "localai": "/.well-known/localai.json",
    "system": "/system",
    "api": "/openapi.json",
}
"""What is asked of a server whose `/v1/models` does not settle who it is, by attribute of `Answers`."""


def said_by(page: Said | None) -> Item:
    """The object on a page; an empty one if there is none."""
    value = page.value if page is not None and page.status == 200 else None  # noqa: PLR2004 - OK
    return value if isinstance(value, dict) else {}


def below(item: Item, name: str) -> Item:
    """A member that is an object; an empty one if it is none."""
    inner = item.get(name)
    return inner if isinstance(inner, dict) else {}


def api_title(page: Said | None) -> str:
    """What a server calls itself in its OpenAPI description."""
    return text(below(said_by(page), "info"), "title")


def api_paths(page: Said | None) -> frozenset[str] | None:
    """The paths in a server's OpenAPI description; None if there is none."""
    return frozenset(below(said_by(page), "paths")) or None


def items(page: Said | None, member: str) -> tuple[Item, ...] | None:
    """The models in a listing; None if it is none.

    A list under `member`, of which only the objects count. Ollama writes `null` for an empty one,
    and some gateways write the bare list.
    """
    value = page.value if page is not None and page.status == 200 else None  # noqa: PLR2004 - OK
    listed = value.get(member, ()) if isinstance(value, dict) else value
    if isinstance(value, dict) and member in value and listed is None:
        return ()
    if not isinstance(listed, list):
        return None
    objects = tuple(each for each in listed if isinstance(each, dict))
    return objects if objects or not listed else None


def by_name(listed: Sequence[Item], *names: str) -> tuple[dict[str, Item], dict[str, str]]:
    """The models that can be offered, by their name; and why those cannot that are left out.

    A name must be a `text` (below). Of two models with one name, the first is meant.
    """
    usable: dict[str, Item] = {}
    left_out: dict[str, str] = {}
    for item in listed[:MOST_MODELS]:
        if name := text(item, *names):
            usable.setdefault(name, item)
        else:
            said = next((item[name] for name in names if item.get(name)), None)
            left_out[ascii(said)[:_SHOWN_CHARACTERS]] = "its name is no short plain text"
    if len(listed) > MOST_MODELS:
        left_out[f"after the first {MOST_MODELS}"] = "an agent offers no more"
    return usable, left_out


def text(item: Item, *names: str) -> str:
    """The first of these members that is a text which fits a frame, else an empty one."""
    for name in names:
        said = item.get(name)
        if isinstance(said, str) and is_name(said):
            return said
    return ""


def is_name(said: str) -> bool:
    """Whether a model can be called so in a frame, and on a terminal."""
    return 0 < len(said) <= LONGEST_NAME and not _UNFIT.search(said)


def positive(item: object, *names: str) -> int | None:
    """The first of these members that is a positive integer which fits a frame."""
    if not isinstance(item, Mapping):
        return None
    for name in names:
        value = item.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_COUNT:
            return value
    return None
