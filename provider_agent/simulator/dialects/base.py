"""What is said of a family to simulate it, and of the engine to fill its pages; knows no family.

A dialect is pages and habits: which paths it answers, how it writes, what it does when it is full or cold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from provider_agent.simulator.memory import Memory
from provider_agent.simulator.slots import Slots
from provider_agent.simulator.style import PLAIN, Json, Style
from provider_agent.simulator.task import BadTask

_FOREVER = datetime(2318, 1, 1, tzinfo=UTC)
_LONGEST_S = 10 * 365 * 86_400.0


class NoSuchModel(BadTask):
    """The engine has no model of that name."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model}' not found")
        self.model = model


@dataclass(frozen=True, slots=True)
class View:
    """One engine, as its pages show it.

    Attributes:
        models: their names as it lists them.
        context_window: of each slot.
        now: the time of day.
    """

    models: tuple[str, ...]
    context_window: int
    slots: Slots
    memory: Memory
    started: datetime
    now: Callable[[], datetime]

    @property
    def created_s(self) -> int:
        return int(self.started.timestamp())

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(model for model in self.models if self.memory.has(model))

    def ends_at(self, model: str) -> datetime:
        """When a model leaves memory if nobody uses it; far away for good."""
        left_s = self.memory.left_s(model)
        return self.now() + timedelta(seconds=left_s) if left_s < _LONGEST_S else _FOREVER

    def require(self, model: object) -> str:
        """The name of a model that is there. Raises NoSuchModel."""
        if model not in self.models:
            raise NoSuchModel(str(model))
        return str(model)


Page = Callable[[View, Json], Any]
"""What a page says; the second argument is the question: a query, or a body."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine family.

    Attributes:
        endpoints: where it can be asked for answers.
        pages: what it tells of itself, by path.
        questions: the same, for pages that want a body.
        server: its `Server` header, if it is not any server.
        folder: below which it has its `/v1/…`.
        name_of: how it spells a model's name.
        takes_any_model: it has one, and does not read what requests call it.
        loads: what waits for `load_s`: the first answer of each cold model; or the whole engine, which
            answers 503, or does not listen, until then.
        keep_s: how long a model stays in memory after its last use.
        most_waiting: how many requests may wait for a slot, and
        full: how it refuses those beyond.
        hangs_up: it closes the connection after a stream, whatever its headers say.
    """

    endpoints: frozenset[str]
    pages: Mapping[str, Page]
    questions: Mapping[str, Page] = field(default_factory=dict)
    style: Style = PLAIN
    server: str | None = None
    folder: str = ""
    name_of: Callable[[str], str] = str
    takes_any_model: bool = False
    loads: Literal["on demand", "answering 503", "before listening"] = "before listening"
    keep_s: float = float("inf")
    most_waiting: int | None = None
    full: tuple[int, str] = (503, "the engine is busy")
    hangs_up: bool = False


def listing(owner: str | None, *, window: str | None = None, more: Json | None = None) -> Page:
    """`/v1/models`, with the context window under that name, if it tells one, and what else each card has."""

    def page(view: View, _asked: Json) -> Any:
        told = {window: view.context_window} if window else {}
        owned = {"owned_by": owner} if owner is not None else {}
        cards = [
            {"id": model, "object": "model", "created": view.created_s, **owned, **told, **(more or {})}
            for model in view.models
        ]
        return {"object": "list", "data": cards}

    return page


def fixed(value: Any) -> Page:
    """A page that is always the same."""
    return lambda _view, _asked: value


def described(*paths: str, title: str = "FastAPI") -> Page:
    """An OpenAPI description of itself with these paths."""
    ways: dict[str, Json] = {path: {"post": {"responses": {}}} for path in paths}
    return fixed({"openapi": "3.1.0", "info": {"title": title, "version": "0.1.0"}, "paths": ways})
