"""Signals become events."""

import asyncio
import os
import signal
import sys

import pytest

from provider_agent.cli.signals import reload_on_hangup, stop_on_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send itself these signals")

LIMIT_S = 5.0


class Exits:
    """Notes the status with which the process would have ended."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.happened = asyncio.Event()

    def __call__(self, status: int) -> None:
        self.statuses.append(status)
        self.happened.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_stops_and_the_second_ends_at_once(number: signal.Signals) -> None:
    """Field note 44: running jobs get their time, unless somebody has none."""
    exits = Exits()
    async with asyncio.timeout(LIMIT_S):
        with stop_on_signals(exits) as stop:
            os.kill(os.getpid(), number)
            await stop.wait()
            assert exits.statuses == []

            os.kill(os.getpid(), number)
            await exits.happened.wait()
    assert exits.statuses == [128 + number]


class Terminal:
    """Is there until somebody closes it."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there

    def __call__(self) -> bool:
        return self.is_there


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_hangup_is_a_wish_to_read_the_settings_again(is_there: bool) -> None:
    """`kill -HUP`, with a terminal or as a service; each time anew."""
    stop = asyncio.Event()
    async with asyncio.timeout(LIMIT_S):
        with reload_on_hangup(stop, Terminal(is_there=is_there)) as reload:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
                await reload.wait()
                reload.clear()

    assert not stop.is_set()


async def test_the_end_of_the_terminal_stops_what_was_started_there() -> None:
    """Its window was closed: nobody wants to go on without."""
    stop, terminal = asyncio.Event(), Terminal(is_there=True)
    async with asyncio.timeout(LIMIT_S):
        with reload_on_hangup(stop, terminal) as reload:
            terminal.is_there = False
            os.kill(os.getpid(), signal.SIGHUP)
            await stop.wait()

    assert not reload.is_set()


async def test_nohup_outlives_its_terminal() -> None:
    """That is what it is for."""
    stop, terminal = asyncio.Event(), Terminal(is_there=True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with asyncio.timeout(LIMIT_S):
            with reload_on_hangup(stop, terminal) as reload:
                terminal.is_there = False
                os.kill(os.getpid(), signal.SIGHUP)
                await reload.wait()
    finally:
        signal.signal(signal.SIGHUP, before)

    assert not stop.is_set()


async def test_afterwards_signals_mean_what_they_meant_before() -> None:
    """Handlers are taken back."""
    before = signal.getsignal(signal.SIGTERM)

    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
