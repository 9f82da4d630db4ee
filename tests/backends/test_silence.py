"""Silence on the real clock, with limits of milliseconds; waits are bounded."""

import asyncio

from provider_agent.backends.silence import Silence

LATE_S = 5.0
LIMIT_S = 0.02
LONG_S = 1000.0


async def pass_time(seconds: float) -> None:
    """Time is what these tests are about."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


async def test_silence_is_told() -> None:
    """Once, and not before its limit."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    silence = Silence(told.set)
    began_s = loop.time()
    silence.begin(LIMIT_S)
    async with asyncio.timeout(LATE_S):
        await told.wait()

    assert loop.time() - began_s >= LIMIT_S


async def test_a_sign_of_life_begins_it_anew() -> None:
    """The one timer looks back."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    silence = Silence(told.set)
    silence.begin(LIMIT_S)
    await pass_time(LIMIT_S / 2)
    silence.since_s = heard_s = loop.time()
    async with asyncio.timeout(LATE_S):
        await told.wait()

    assert loop.time() - heard_s >= LIMIT_S


async def test_paused_time_is_nobodys_silence() -> None:
    """What was silent before counts, and what is silent after."""
    told = asyncio.Event()
    silence = Silence(told.set)
    silence.begin(LIMIT_S)
    silence.pause()
    await pass_time(4 * LIMIT_S)
    assert not told.is_set()
    silence.resume()
    async with asyncio.timeout(LATE_S):
        await told.wait()


async def test_an_end_is_no_silence() -> None:
    """Nothing is expected any more."""
    told = asyncio.Event()
    silence = Silence(told.set)
    silence.begin(LIMIT_S)
    silence.end()
    await pass_time(3 * LIMIT_S)

    assert not told.is_set()


async def test_one_timer_serves_all_answers() -> None:
    """A shorter limit is kept, though the timer ran for a longer one."""
    told = asyncio.Event()
    silence = Silence(told.set)
    silence.begin(LONG_S)
    silence.end()
    silence.begin(LONG_S)
    silence.limit(LIMIT_S)
    async with asyncio.timeout(LATE_S):
        await told.wait()


async def test_after_stop_nothing_is_told() -> None:
    """The connection is over."""
    told = asyncio.Event()
    silence = Silence(told.set)
    silence.begin(LIMIT_S)
    silence.stop()
    await pass_time(3 * LIMIT_S)

    assert not told.is_set()
