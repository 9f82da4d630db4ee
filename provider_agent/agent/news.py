"""Has something said whenever it may have changed, but not all the time; knows neither what nor to whom."""

import asyncio
from collections.abc import Callable
from typing import Final

GAP_S: Final = 1.0
"""Between two times: engines that come and go by the second must not flood a coordinator of many agents."""


class News:
    """The first change is said at once; those of the time after it are said together, as it then is."""

    def __init__(self, say: Callable[[], bool], gap_s: float = GAP_S) -> None:
        """`say` says what is new, and whether that was anything."""
        self._say = say
        self._gap_s = gap_s
        self._gap: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Something may have; what it is will be seen when the gap is over."""
        if self._gap is None and self._say():
            self._gap = asyncio.get_running_loop().call_later(self._gap_s, self._gap_is_over)

    def flush(self) -> None:
        """Say now what is new, whenever the last time was."""
        self._say()

    def close(self) -> None:
        """Nothing is said any more of what waits."""
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None

    def _gap_is_over(self) -> None:
        self._gap = None
        self.changed()
