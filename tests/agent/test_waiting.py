"""The waiter of the running program."""

import asyncio

from provider_agent.agent.waiting import wait_until


async def test_the_time_may_pass() -> None:
    """Nobody set the event, and that is no error."""
    async with asyncio.timeout(10):
        await wait_until(0.001, asyncio.Event())


async def test_the_event_cuts_the_wait_short() -> None:
    """Also when it was set before, and when there is no time at all."""
    event = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(wait_until(3600.0, event))
        event.set()
    await wait_until(3600.0, event)
    await wait_until(0.0, event)


async def test_a_cancel_is_no_end_of_the_wait() -> None:
    """It goes through."""
    async with asyncio.timeout(10):
        waiting = asyncio.ensure_future(wait_until(3600.0, asyncio.Event()))
        waiting.cancel()
        await asyncio.wait((waiting,))

    assert waiting.cancelled()
