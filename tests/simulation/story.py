"""What happened in one run, in order, to be told when it went wrong; knows no program."""

from collections import Counter
from collections.abc import Callable


class Broken(AssertionError):
    """A promise was not kept."""


class Story:
    """Lines with the virtual time, oldest first; the last `MOST_LINES` of them.

    Attributes:
        counts: how often things happened that the dice should make happen.
    """

    MOST_LINES = 4000

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._now_s = now_s
        self._lines: list[tuple[float, tuple[object, ...]]] = []

    def tell(self, *parts: object) -> None:
        """Note what happened; it is put into words only if somebody reads it."""
        self._lines.append((self._now_s(), parts))

    def demand(self, promise: object, sentence: str) -> None:
        """Raise Broken unless the promise holds."""
        if not promise:
            self.tell("BROKEN:", sentence)
            raise Broken(sentence)

    def __str__(self) -> str:
        return "\n".join(
            f"{now_s:10.4f}  " + " ".join(str(part)[:300] for part in parts)
            for now_s, parts in self._lines[-self.MOST_LINES :]
        )
