"""A game is noticed after a few seconds, and its end after a quiet minute."""

import asyncio
from collections.abc import Collection

import pytest

from provider_agent.agent.gpu_watch import LOOKS_UNTIL_BUSY, LOOKS_UNTIL_FREE, GpuWatch
from tests.fakes.gpus import BlindGpuUse, ScriptedGpuUse
from tests.fakes.logs import LogLines

GAME, DESKTOP = 80, 10


async def looked(watch: GpuWatch, times: int = 1) -> bool:
    for _ in range(times):
        async with asyncio.timeout(10):
            await watch.look()
    return watch.is_busy


@pytest.fixture
def use() -> ScriptedGpuUse:
    return ScriptedGpuUse()


@pytest.fixture
def watch(use: ScriptedGpuUse) -> GpuWatch:
    return GpuWatch(lambda: {11434}, find=lambda: use)


async def test_a_gpu_that_others_use_for_some_seconds_is_busy(watch: GpuWatch, use: ScriptedGpuUse) -> None:
    """And free again after a quiet minute."""
    use.percent = GAME
    assert not await looked(watch, LOOKS_UNTIL_BUSY - 1)
    assert await looked(watch)

    use.percent = DESKTOP
    assert await looked(watch, LOOKS_UNTIL_FREE - 1)
    assert not await looked(watch)


async def test_a_flicker_is_no_game_and_a_loading_screen_not_its_end(
    watch: GpuWatch, use: ScriptedGpuUse
) -> None:
    """Only looks in a row count."""
    for use.percent in (GAME, GAME, DESKTOP, GAME, GAME):
        assert not await looked(watch)

    use.percent = GAME
    await looked(watch, LOOKS_UNTIL_BUSY)
    use.percent = DESKTOP
    await looked(watch, LOOKS_UNTIL_FREE - 1)
    use.percent = GAME
    await looked(watch)
    use.percent = DESKTOP
    assert await looked(watch, LOOKS_UNTIL_FREE - 1)


async def test_what_the_engines_use_is_asked_by_their_ports(use: ScriptedGpuUse) -> None:
    """Those of the moment: engines come and go."""
    ports: Collection[int] = {11434}
    watch = GpuWatch(lambda: ports, find=lambda: use)
    await looked(watch)
    ports = {8080}
    await looked(watch)

    assert use.asked == [{11434}, {8080}]


async def test_a_driver_that_does_not_answer_is_no_sign_of_use(watch: GpuWatch, use: ScriptedGpuUse) -> None:
    """A pause ends, and none begins."""
    use.percent = None
    assert not await looked(watch, LOOKS_UNTIL_BUSY)
    use.percent = GAME
    await looked(watch, LOOKS_UNTIL_BUSY)
    use.percent = None
    assert not await looked(watch, LOOKS_UNTIL_FREE)


async def test_where_nobody_can_tell_it_is_said_once_and_never_busy() -> None:
    """AMD, Windows, no driver: the agent serves on."""
    log, use = LogLines(), BlindGpuUse()
    watch = GpuWatch(lambda: {11434}, find=lambda: use)

    assert not await looked(watch, 2 * LOOKS_UNTIL_BUSY)
    assert watch.is_blind
    assert use.asked == []
    (entry,) = log.named("gpu_use_unknown")
    assert "nvidia-ml-py" in entry["reason"]


async def test_what_was_seen_is_forgotten_when_nobody_looks_any_more(
    watch: GpuWatch, use: ScriptedGpuUse
) -> None:
    """The setting was taken away."""
    use.percent = GAME
    await looked(watch, LOOKS_UNTIL_BUSY)
    watch.forget()

    assert not watch.is_busy
