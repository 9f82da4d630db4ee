"""Changes are said at once or together, and never more often than once in a while."""

import asyncio

from provider_agent.agent.news import GAP_S, News
from tests.simulation.loop import run_virtually


class Teller:
    """Says a value when it is another one than it said last.

    Attributes:
        value: what there is to say.
        said: what was said, and when.
    """

    def __init__(self) -> None:
        self.value = 0
        self.said: list[tuple[float, int]] = []
        self.news = News(self._say)

    def set(self, value: int) -> None:
        self.value = value
        self.news.changed()

    def _say(self) -> bool:
        if self.said and self.said[-1][1] == self.value:
            return False
        self.said.append((asyncio.get_running_loop().time(), self.value))
        return True


def test_a_change_is_said_at_once_and_those_that_follow_together() -> None:
    """The ordinary case; of several the last one counts."""

    async def play() -> None:
        teller = Teller()
        for value in (1, 2, 3):
            teller.set(value)
        await asyncio.sleep(10)
        teller.set(4)

        assert teller.said == [(0.0, 1), (GAP_S, 3), (10.0, 4)]

    run_virtually(play())


def test_a_flood_of_changes_is_said_once_a_gap() -> None:
    """However long it lasts."""

    async def play() -> None:
        teller = Teller()
        for value in range(1, 1001):
            teller.set(value)
            await asyncio.sleep(GAP_S / 100)
        await asyncio.sleep(GAP_S)

        assert len(teller.said) in (11, 12)
        assert teller.said[-1][1] == 1000

    run_virtually(play())


def test_what_changed_back_meanwhile_is_not_said() -> None:
    """And the next change need not wait for what was not said."""

    async def play() -> None:
        teller = Teller()
        for value in (1, 2, 1):
            teller.set(value)
        await asyncio.sleep(GAP_S)
        teller.set(3)

        assert [value for _, value in teller.said] == [1, 3]

    run_virtually(play())


def test_what_waits_can_be_said_now_and_is_not_said_again() -> None:
    """To whoever comes just now; who said it before stays silent for his time."""

    async def play() -> None:
        teller = Teller()
        teller.set(1)
        teller.news.flush()
        teller.set(2)
        teller.news.flush()
        teller.set(3)
        await asyncio.sleep(GAP_S)

        assert teller.said == [(0.0, 1), (0.0, 2), (GAP_S, 3)]

    run_virtually(play())


def test_what_waits_at_the_end_is_not_said() -> None:
    """Nobody listens any more."""

    async def play() -> None:
        teller = Teller()
        teller.set(1)
        teller.set(2)
        teller.news.close()
        await asyncio.sleep(2 * GAP_S)

        assert [value for _, value in teller.said] == [1]

    run_virtually(play())
