"""What real engines have answered, as `tests/engines/record.py` wrote it down; judges nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from provider_agent.backends.base import Usage
from tests.fakes.engine import Answer, Connection, FakeEngine, Received

FOLDER: Final = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Exchange:
    """One request of inference, and its answer."""

    name: str
    path: str
    request: Mapping[str, Any] | str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def is_success(self) -> bool:
        return self.status == HTTPStatus.OK

    @property
    def events(self) -> list[Any]:
        """The data of its events, or the one document that it is, read as plainly as can be."""
        if "event-stream" not in self.content_type:
            return [json.loads(self.body)]
        lines = (
            line.removeprefix("data: ") for line in self.body.decode().splitlines() if line[:5] == "data:"
        )
        return [json.loads(line) for line in lines if line != "[DONE]"]

    @property
    def usage(self) -> Usage:
        """The last that it said of either count, wherever it said so."""
        told: dict[str, Any] = {}
        for event in self.events:
            for said in (event, event.get("response") or {}, event.get("message") or {}):
                told |= {
                    name: count for name, count in (said.get("usage") or {}).items() if count is not None
                }
        cached = told.get("cache_read_input_tokens", 0)  # Anthropic counts it apart
        read = told.get("prompt_tokens", told.get("input_tokens", -cached) + cached) or None
        written = told.get("completion_tokens", told.get("output_tokens"))
        return Usage(read, written)


@dataclass(frozen=True)
class Recording:
    """One engine, on one day.

    Attributes:
        name: family and version.
        model: of its models, the one that was asked.
        pages: what it says of itself, by path.
    """

    name: str
    kind: str
    model: str
    pages: Mapping[str, Answer]
    exchanges: tuple[Exchange, ...]

    def __str__(self) -> str:
        return self.name

    def exchange(self, name: str) -> Exchange:
        return next(each for each in self.exchanges if each.name == name)


def _answer(told: Mapping[str, Any]) -> Answer:
    body = told["body"] if isinstance(told["body"], str) else json.dumps(told["body"])
    headers = {name: value for name, value in told["headers"].items() if name in ("server", "retry-after")}
    return Answer((body.encode(),), told["status"], told["headers"].get("content-type"), headers)


def _exchange(told: Mapping[str, Any]) -> Exchange:
    return Exchange(**{**told, "body": "\n".join(told["body"]).encode()})


def _read(path: Path) -> Recording:
    told = json.loads(path.read_text())
    return Recording(
        path.stem,
        told["kind"],
        told["model"],
        {page: _answer(each) for page, each in told["pages"].items()},
        tuple(_exchange(each) for each in told["answers"]),
    )


class RecordedEngine(FakeEngine):
    """Gives the pages of a recording, also those that differ in their query only."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.pages = dict(recording.pages)

    def answer(self, request: Received, connection: Connection) -> Answer:
        return self.pages.get(request.path) or super().answer(request, connection)


RECORDINGS: Final[Sequence[Recording]] = tuple(_read(path) for path in sorted(FOLDER.glob("*.json")))
