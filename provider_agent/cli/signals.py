"""Turns SIGINT and SIGTERM into a stop event; knows nothing of what is stopped."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(exit_now: Callable[[int], object] = os._exit) -> Iterator[asyncio.Event]:
    """An event that the first signal sets; the second one ends the process at once.

    Needs a running loop, in the main thread. `exit_now` gets the status that shells use for a
    death by signal: 128 + its number.
    """
    stop = asyncio.Event()

    def handle(number: int) -> None:
        if stop.is_set():
            exit_now(128 + number)
        stop.set()

    with ExitStack() as handlers:
        for number in STOP_SIGNALS:
            _install(number, handle, handlers)
        yield stop


def _install(number: signal.Signals, handle: Callable[[int], None], handlers: ExitStack) -> None:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, handle, int(number))
        handlers.callback(loop.remove_signal_handler, number)
    except NotImplementedError:  # Windows
        before = signal.signal(number, lambda got, _frame: loop.call_soon_threadsafe(handle, got))
        handlers.callback(signal.signal, number, before)
