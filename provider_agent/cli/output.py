"""What the commands say: events and results on stdout, sentences on stderr; knows no command."""

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import NoReturn, TextIO

OnEvent = Callable[[str, dict[str, object]], None]


class ExitCode(IntEnum):
    """How a command ended; the numbers are those of sysexits."""

    OK = 0
    USAGE = 64
    """The command line cannot be read."""
    NOT_FOUND = 66
    """What the command line names does not exist."""
    UNAVAILABLE = 69
    """Something outside is in the way, such as a port in use: starting again later may help."""
    TAKEN = 73
    """What the command should make exists already."""
    REPLACED = 75
    """A newer connection of the same identity took over."""
    CONFIG = 78
    """The configuration is wrong, or the other side refused for good: starting again cannot help."""


def fail(sentence: str, code: ExitCode) -> NoReturn:
    """End the command with one sentence on stderr."""
    say(f"provider-agent: {sentence}")
    sys.exit(code)


def say(sentence: str) -> None:
    """An explanation for the person at the terminal, if there still is one; never for a script to read."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(sentence, file=sys.stderr, flush=True)


def counted_jobs(number: object) -> str:
    """So many running jobs, in words."""
    return "1 running job" if number == 1 else f"{number} running jobs"


def named(names: object, most: int = 5) -> str:
    """Some of these names, and how many more there are: nobody reads a hundred of them."""
    if not isinstance(names, list | tuple):
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def print_json(value: object, stream: TextIO | None = None) -> None:
    """One JSON document on one line, flushed: whoever reads the pipe sees it at once.

    A reader that left or a full disk is not the program's trouble: from then on nothing is printed.
    """
    sink: TextIO | None = sys.stdout if stream is None else stream
    if sink is None:  # the program was started with stdout closed
        return
    line = json.dumps(value, default=str) + "\n"
    try:
        sink.write(line)
        sink.flush()
    except (OSError, ValueError):  # ValueError: the stream is closed
        _turn_away(sink)


def json_events(stream: TextIO | None = None) -> OnEvent:
    """An `on_event` that prints each event as one line `{"event": NAME, …}`.

    An event is left out rather than waited for: a pipe that nobody reads must not stop the program.
    """

    def on_event(name: str, fields: dict[str, object]) -> None:
        if _has_room(sys.stdout if stream is None else stream):
            print_json({"event": name, **fields}, stream)

    return on_event


def _has_room(stream: TextIO | None) -> bool:
    """Whether a line can be written without waiting; what has no descriptor to ask never waits."""
    try:
        return stream is None or bool(select.select([], [stream.fileno()], [], 0)[1])
    except (OSError, ValueError):
        return True


def _turn_away(stream: TextIO) -> None:
    """Let it lead nowhere: what it still holds would fail again at the interpreter's last flush."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
