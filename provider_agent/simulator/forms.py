"""What an API's way to write an answer offers to the engine; knows no API."""

import json
from dataclasses import dataclass
from typing import Any, Protocol

from provider_agent.simulator.task import Answer


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one answer took, in nanoseconds."""

    first_token_ns: int
    total_ns: int


class Form(Protocol):
    """One answer as an API writes it: bytes of the HTTP body."""

    @property
    def stream_type(self) -> str: ...

    def begin(self) -> bytes:
        """What goes before the first token."""
        ...

    def piece(self, token: str) -> bytes:
        """One token: the only part of this that runs for each."""
        ...

    def end(self, answer: Answer, timing: Timing, /, *, marked: bool) -> bytes:
        """What follows the last token; unless `marked`, without the end mark, as of a cut answer."""
        ...

    def error(self, message: str) -> bytes:
        """An error inside a stream."""
        ...

    def refusal(self, status: int, message: str, /) -> bytes:
        """The JSON body of an error status."""
        ...

    def whole(self, answer: Answer, timing: Timing, /) -> bytes:
        """The answer in one JSON body."""
        ...


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
