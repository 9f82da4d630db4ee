"""Signals become a stop event."""

import asyncio
import os
import signal
import sys

import pytest

from provider_agent.cli.signals import stop_on_signals

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


async def test_afterwards_signals_mean_what_they_meant_before() -> None:
    """Handlers are taken back."""
    before = signal.getsignal(signal.SIGTERM)

    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
