"""Slots: the surplus waits in order, and whoever leaves frees its place."""

import asyncio

import pytest

from provider_agent.simulator.slots import Slots, TooManyWait


class Guests:
    """Tasks that take a slot and keep it until told to leave."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.served: list[str] = []
        self._leave = asyncio.Event()

    async def stay(self, name: str) -> None:
        async with self._slots.one():
            self.served.append(name)
            await self._leave.wait()


async def turns(count: int = 10) -> None:
    """Let every ready task run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_free_slot_is_taken_and_given_back() -> None:
    """The ordinary case."""
    slots = Slots(1)
    async with slots.one():
        assert (slots.busy, slots.waiting) == (1, 0)

    assert (slots.busy, slots.waiting) == (0, 0)


async def test_the_surplus_waits_in_order_and_one_who_leaves_makes_room() -> None:
    """A cancelled guest frees its slot for the first who waits, and for nobody else."""
    slots = Slots(1)
    guests = Guests(slots)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guests.stay(name)) for name in "abc"]
        await turns()
        assert (guests.served, slots.busy, slots.waiting) == (["a"], 1, 2)
        tasks[0].cancel()
        await turns()
        assert (guests.served, slots.busy, slots.waiting) == (["a", "b"], 1, 1)
        tasks[1].cancel()
        tasks[2].cancel()

    assert (slots.busy, slots.waiting) == (0, 0)


async def test_one_who_gives_up_waiting_takes_nobodys_place() -> None:
    """The next in the line moves up."""
    slots = Slots(1)
    guests = Guests(slots)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guests.stay(name)) for name in "abc"]
        await turns()
        tasks[1].cancel()
        await turns()
        assert (slots.busy, slots.waiting) == (1, 1)
        tasks[0].cancel()
        await turns()
        assert guests.served == ["a", "c"]
        tasks[2].cancel()


async def test_a_failure_inside_frees_the_slot() -> None:
    """No place is lost to an exception."""
    slots = Slots(1)
    with pytest.raises(RuntimeError):
        await fail_inside(slots)

    assert (slots.busy, slots.waiting) == (0, 0)


async def fail_inside(slots: Slots) -> None:
    async with slots.one():
        raise RuntimeError


async def test_only_so_many_may_wait() -> None:
    """One more is refused, and counts for nothing."""
    slots = Slots(1, most_waiting=1)
    guests = Guests(slots)
    present = [asyncio.create_task(guests.stay(name)) for name in ("works", "waits")]
    await turns()
    with pytest.raises(TooManyWait):
        await guests.stay("refused")
    assert (slots.busy, slots.waiting) == (1, 1)
    for guest in present:
        guest.cancel()
    await asyncio.wait(present)
