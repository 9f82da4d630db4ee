"""Whoever waits is disturbed for an earlier deadline, and for no other."""

import asyncio

from provider_agent.coordinator.alarm import Alarm
from tests.fakes.coordinators import until


async def test_a_wait_ends_when_its_time_has_passed() -> None:
    """Nobody set anything meanwhile."""
    async with asyncio.timeout(5):
        await Alarm().wait(0.001)


async def test_a_deadline_that_is_earlier_ends_the_wait() -> None:
    """Whatever was waited for."""
    alarm = Alarm()
    alarm.reset(100.0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(alarm.wait(None))
        await asyncio.sleep(0)
        alarm.set(99.0)
        await until(waiting.done)


def test_a_deadline_that_is_later_disturbs_nobody() -> None:
    """All who queue up wait equally long, so each new deadline is later than those before."""
    alarm = Alarm()
    alarm.reset(100.0)

    alarm.set(101.0)
    assert not alarm.is_set

    alarm.reset(None)
    alarm.set(101.0)
    assert alarm.is_set


def test_an_earlier_deadline_counts_once() -> None:
    """Until the waiter has looked what is due."""
    alarm = Alarm()
    alarm.set(100.0)

    alarm.reset(100.0)
    alarm.set(100.0)

    assert not alarm.is_set
