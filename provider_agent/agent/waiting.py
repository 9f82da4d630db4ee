"""Waiting that can be cut short, and that tests can replace; knows no reason to wait."""

import asyncio
import contextlib
from typing import Protocol


class Waiter(Protocol):
    """Waits so long, or until the event is set."""

    async def __call__(self, wait_s: float, until: asyncio.Event) -> None: ...


async def wait_until(wait_s: float, until: asyncio.Event) -> None:
    """The waiter of the running program."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await until.wait()


def mind_cancel() -> None:
    """Raise the cancel of this task that was swallowed: whoever cancelled would wait for an end in vain.

    A task group does so that had an error already, before Python 3.13; so does what makes an error of it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
