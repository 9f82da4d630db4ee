"""The waiter of the running program."""

import asyncio

from provider_agent.agent.waiting import mind_cancel, wait_until


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


async def _fails_while_a_child_takes_its_time(may_end: asyncio.Event) -> None:
    """A group with an error of its own, and a child that is slow to go."""

    async def go_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(go_slowly())
            await asyncio.sleep(0)
            raise ConnectionError  # noqa: TRY301 - it is the group that is tested
    except* ConnectionError:
        pass
    mind_cancel()


async def test_a_cancel_that_a_group_has_swallowed_is_minded() -> None:
    """It came while the group was ending for an error of its own; nobody must wait for the task in vain."""
    may_end = asyncio.Event()
    async with asyncio.timeout(10):
        ending = asyncio.ensure_future(_fails_while_a_child_takes_its_time(may_end))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.wait((ending,))

    assert ending.cancelled()


async def test_without_a_cancel_there_is_nothing_to_mind() -> None:
    """The ordinary case."""
    mind_cancel()
