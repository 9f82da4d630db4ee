"""Which routes are worth trying now: a circuit breaker and a rest for each; pure, and told the time.

    closed ──(FAILURES in a row)──▶ open ──(its time passes)──▶ half-open ──(an answer)──▶ closed
                                     ▲                             │
                                     └──────(one more failure)─────┘

A half-open route takes one job at a time, until that one's first byte has come; an open one takes none, and
is open for twice as long each time. One that has answered a question of our own is closed, and what fails
soon after is not held against it: engines answer 500 to odd requests, too, and one client must not take an
engine from all others. Apart from that a route rests for as long as its engine asked for (429, 503). An
engine that nobody reaches is discovery's: it takes it off the catalog, and puts it back.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from provider_agent.protocol.errors import ErrorCode

FAILURES: Final = 5
"""So many in a row open a circuit."""

VOUCHED_S: Final = 5.0
"""After an answer to a question of our own, failures are those of the requests."""

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 30.0
LONGEST_REST_S: Final = 60.0

Key = tuple[str, str]
"""A route: the backend's name, and the engine's name of the model."""


class Block(NamedTuple):
    """Why a route takes no job now, and for how long yet."""

    code: ErrorCode
    message: str
    wait_s: float


@dataclass(slots=True)
class _Row:
    """What is held against a route; one without is closed and does not rest."""

    failures: int = 0
    pause_s: float = 0.0
    opened_until_s: float | None = None
    rest: Block | None = None
    rests_until_s: float = 0.0
    vouched_until_s: float = 0.0


class Circuits:
    """The circuits of all routes; those of which nothing is known are closed."""

    def __init__(self) -> None:
        self._rows: dict[Key, _Row] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to ask for."""
        return bool(self._rows)

    def block(self, key: Key, now_s: float, untried: int) -> Block | None:
        """Why a route takes no job now; `untried` jobs run there of which no byte has come yet."""
        row = self._rows.get(key)
        if row is None:
            return None
        if row.rest is not None and now_s < row.rests_until_s:
            return row.rest._replace(wait_s=row.rests_until_s - now_s)
        if row.opened_until_s is None:
            return None
        if now_s < row.opened_until_s:
            why = "the engine has failed several times in a row"
            return Block(ErrorCode.OUT_OF_CAPACITY, why, row.opened_until_s - now_s)
        if untried:
            return Block(ErrorCode.OUT_OF_CAPACITY, "the engine has failed, and is being tried again", 0.0)
        return None

    def open_keys(self, now_s: float) -> frozenset[Key]:
        """The routes that take no job at all until some time has passed; resting ones are not among them."""
        return frozenset(
            key
            for key, row in self._rows.items()
            if row.opened_until_s is not None and now_s < row.opened_until_s
        )

    @property
    def unproven_keys(self) -> frozenset[Key]:
        """The routes that have not answered since they opened: open ones, and those to be tried again."""
        return frozenset(key for key, row in self._rows.items() if row.opened_until_s is not None)

    def succeeded(self, key: Key) -> bool:
        """A job there has ended well; whether that closed a circuit."""
        row = self._rows.pop(key, None)
        return row is not None and row.opened_until_s is not None

    def vouch(self, key: Key, now_s: float) -> bool:
        """A question of our own was answered there; whether that closed a circuit."""
        was_open = self.succeeded(key)
        self._rows[key] = _Row(vouched_until_s=now_s + VOUCHED_S)
        return was_open

    def failed(self, key: Key, now_s: float) -> float | None:
        """A job there has failed, by the engine's fault. How long the circuit is open now, if that opened it.

        What fails while it is open had begun before.
        """
        row = self._rows.setdefault(key, _Row())
        if now_s < row.vouched_until_s:
            return None
        row.failures += 1
        is_half_open = row.opened_until_s is not None and now_s >= row.opened_until_s
        if not is_half_open and (row.failures < FAILURES or row.opened_until_s is not None):
            return None
        row.pause_s = min(2 * row.pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        row.opened_until_s = now_s + row.pause_s
        return row.pause_s

    def rest(self, key: Key, now_s: float, block: Block) -> None:
        """The engine wants no job of this model for `block.wait_s`; of several wishes the latest counts."""
        row = self._rows.setdefault(key, _Row())
        row.rest = block
        row.rests_until_s = now_s + min(block.wait_s, LONGEST_REST_S)

    def forget(self, backends: Collection[str]) -> None:
        """These engines are new, or back: what was held against them was another process."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] not in backends}
