"""Turns signals into events, to stop or to read the settings again; knows nothing of who listens."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_TERMINAL = "/dev/tty"


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


@contextmanager
def reload_on_hangup(
    stop: asyncio.Event, has_terminal: Callable[[], bool] | None = None
) -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets; nothing does on Windows.

    Somebody may have closed the terminal instead, from which the program was started: that sets `stop`,
    unless it was started with `nohup`. Needs a running loop, in the main thread.
    """
    reload = asyncio.Event()
    if sys.platform == "win32":
        yield reload
        return
    is_there = has_terminal or _has_terminal
    minds_terminal = is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def handle(_number: int) -> None:
        is_closed = minds_terminal and not is_there()
        (stop if is_closed else reload).set()

    with ExitStack() as handlers:
        _install(signal.SIGHUP, handle, handlers)
        yield reload


def _has_terminal() -> bool:
    """Whether there is a terminal that this process belongs to."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _install(number: signal.Signals, handle: Callable[[int], None], handlers: ExitStack) -> None:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, handle, int(number))
        handlers.callback(loop.remove_signal_handler, number)
    except NotImplementedError:  # Windows
        before = signal.signal(number, lambda got, _frame: loop.call_soon_threadsafe(handle, got))
        handlers.callback(signal.signal, number, before)
