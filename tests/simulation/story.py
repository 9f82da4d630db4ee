"""What happened in one run, in order, to be told when it went wrong; knows no program."""

from collections.abc import Callable


class Broken(AssertionError):
    """A promise was not kept."""


class Story:
    """Lines with the virtual time, oldest first; the last `MOST_LINES` of them."""

    MOST_LINES = 4000

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lines: list[tuple[float, str]] = []

    def tell(self, line: str) -> None:
        self._lines.append((self._now_s(), line))

    def demand(self, promise: object, sentence: str) -> None:
        """Raise Broken unless the promise holds."""
        if not promise:
            self.tell(f"BROKEN: {sentence}")
            raise Broken(sentence)

    def __str__(self) -> str:
        return "\n".join(f"{now_s:10.4f}  {line}" for now_s, line in self._lines[-self.MOST_LINES :])
