"""Failures on order, as a header or a flag names them; knows no HTTP server.

    status=429        answer with this status, in the API's own error shape
    error-after=5     an error event inside the stream after five tokens (0: before the first)
    cut-after=5       the connection breaks after five tokens
    end-after=5       the body ends cleanly after five tokens, without any end mark
    silence-after=5   nothing more after five tokens, until the client leaves
    html              200 with an HTML page, as a proxy in between answers
    empty             200 with an empty body
    no-done           a whole answer, but for the API's end mark
    slow-headers=2000 wait so many milliseconds before the response headers

Several are joined with commas: `slow-headers=500, error-after=3`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

HEADER = "X-Simulate"


class UnknownFailure(ValueError):
    """An order that does not exist, or whose number cannot be read."""

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.order = order

    def __str__(self) -> str:
        return f"unknown failure {self.order!r}; there are: {', '.join(_names())}"


@dataclass(frozen=True, slots=True)
class Failures:
    """What shall go wrong in one answer. A number is tokens, or milliseconds for `slow_headers`."""

    status: int | None = None
    error_after: int | None = None
    cut_after: int | None = None
    end_after: int | None = None
    silence_after: int | None = None
    slow_headers: int | None = None
    html: bool = False
    empty: bool = False
    no_done: bool = False

    @classmethod
    def parse(cls, orders: Iterable[str]) -> Self:
        """Read orders as they stand in a flag or a header. Raises UnknownFailure."""
        return cls().plus(orders)

    def plus(self, orders: Iterable[str]) -> Self:
        """These, with the orders on top. Raises UnknownFailure."""
        failures = self
        for order in (part.strip() for text in orders for part in text.split(",")):
            if order:
                failures = replace(failures, **_read(order))
        return failures

    @property
    def breaks_after(self) -> int | None:
        """How many tokens come before the first order that breaks the answer; None when none does."""
        orders = (self.error_after, self.cut_after, self.end_after, self.silence_after)
        return min((order for order in orders if order is not None), default=None)


_FLAGS = frozenset({"html", "empty", "no_done"})
_NUMBERS = frozenset(field.name for field in fields(Failures)) - _FLAGS


def _read(order: str) -> dict[str, Any]:
    name, separator, number = order.partition("=")
    key = name.strip().lower().replace("-", "_")
    if key in _FLAGS and not separator:
        return {key: True}
    if key in _NUMBERS and number.strip().isdecimal():
        return {key: int(number)}
    raise UnknownFailure(order)


def _names() -> list[str]:
    flags = [name.replace("_", "-") for name in sorted(_FLAGS)]
    return flags + [f"{name.replace('_', '-')}=N" for name in sorted(_NUMBERS)]
