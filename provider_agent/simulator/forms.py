"""What an API's way to write an answer offers to the engine; knows no API."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from provider_agent.simulator.style import Error
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


class BodyForm:
    """An answer that is never streamed, such as of embeddings: the body is given."""

    stream_type: ClassVar[str] = "application/json"

    def __init__(self, body: Any, error: Error) -> None:
        self._body = body
        self._error = error

    def begin(self) -> bytes:
        return b""

    def piece(self, token: str) -> bytes:
        del token
        return b""

    def end(self, _answer: Answer, _timing: Timing, /, *, marked: bool) -> bytes:
        del marked
        return b""

    def error(self, message: str) -> bytes:
        return self.refusal(500, message)

    def refusal(self, status: int, message: str, /) -> bytes:
        return to_json(self._error(status, message))

    def whole(self, _answer: Answer, _timing: Timing, /) -> bytes:
        return to_json(self._body)


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
