"""Which models are in memory: loaded at the first use, gone when their time is over."""

import asyncio
import math

from provider_agent.simulator.memory import Memory
from tests.fakes.simulators import HandTime


def memory(time: HandTime, *, load_s: float = 10.0, keep_s: float = 60.0) -> Memory:
    return Memory(("a", "b"), load_s=load_s, keep_s=keep_s, clock=time, sleep=time.sleep)


async def use(models: Memory, keep_s: float | None = None) -> None:
    async with models.using("a", keep_s):
        pass


async def loaded(time: HandTime, *, keep_s: float | None = None) -> Memory:
    """With `a` used once, and now left."""
    models = memory(time)
    using = asyncio.create_task(use(models, keep_s))
    await time.somebody_sleeps()
    time.advance(10)
    await using
    return models


async def test_the_first_use_waits_until_it_is_loaded() -> None:
    """And all that come meanwhile wait for the same load."""
    time = HandTime()
    models = memory(time)
    first, second = asyncio.create_task(use(models)), asyncio.create_task(use(models))
    await time.somebody_sleeps()
    assert models.state("a") == "loading"
    time.advance(10)
    await asyncio.gather(first, second)

    assert (models.state("a"), models.state("b")) == ("loaded", "unloaded")


async def test_a_loaded_model_is_used_at_once() -> None:
    """Without any sleep."""
    models = await loaded(HandTime())

    async with asyncio.timeout(1):
        await use(models)


async def test_it_goes_when_its_time_is_over() -> None:
    """Counted from its last use."""
    time = HandTime()
    models = await loaded(time)
    time.advance(59)
    assert (models.has("a"), models.left_s("a")) == (True, 1)
    time.advance(1)

    assert (models.state("a"), models.left_s("a")) == ("unloaded", 0)


async def test_a_use_may_say_how_long() -> None:
    """For good, or not at all."""
    time = HandTime()
    for_good, at_once = await loaded(time, keep_s=math.inf), await loaded(time, keep_s=0)
    time.advance(1e9)

    assert (for_good.has("a"), at_once.has("a")) == (True, False)


async def test_what_is_used_stays() -> None:
    """However long the answer takes."""
    time = HandTime()
    models = await loaded(time)
    async with models.using("a"):
        models.unload("a")
        time.advance(1000)
        assert models.has("a")


async def test_unloading_is_at_once() -> None:
    """And nothing for a model that is not there."""
    models = await loaded(HandTime())
    models.unload("a")
    models.unload("b")

    assert not models.has("a")


async def test_loading_goes_on_though_its_user_leaves() -> None:
    """It is warm for the next one."""
    time = HandTime()
    models = memory(time)
    using = asyncio.create_task(use(models))
    await time.somebody_sleeps()
    using.cancel()
    await asyncio.wait((using,))
    time.advance(10)

    assert models.has("a")


async def test_without_a_time_to_load_all_are_there() -> None:
    """From the start and for good."""
    time = HandTime()
    models = memory(time, load_s=0)
    time.advance(1e9)

    assert models.has("a")
    assert models.has("b")
    assert models.left_s("a") == math.inf
