"""What commands say, and where."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provider_agent.cli.output import ExitCode, fail, json_events, named, print_json, say


def test_an_event_is_one_line_of_json() -> None:
    """Its name under `event`; what JSON has no word for is text."""
    stream = io.StringIO()

    json_events(stream)("listening", {"port": 8700, "data": Path("x")})

    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue()) == {"event": "listening", "port": 8700, "data": "x"}


class CountingStream(io.StringIO):
    """Notes how often it was flushed."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_every_line_is_flushed() -> None:
    """Whoever waits for the ready line at the other end of a pipe sees it at once."""
    stream = CountingStream()

    print_json({"n": 1}, stream)

    assert stream.flushes == 1


class FullStream(io.StringIO):
    """Takes nothing more."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_an_event_that_cannot_be_written_disturbs_nobody() -> None:
    """Whoever tells events is in the middle of its work; a full disk is not its trouble."""
    closed = io.StringIO()
    closed.close()

    for stream in (FullStream(), closed):
        on_event = json_events(stream)
        on_event("listening", {})
        on_event("stopped", {})


_TWO_EVENTS = """
from provider_agent.cli.output import json_events, say
on_event = json_events()
on_event("listening", {"filler": "x" * 100_000})
on_event("stopped", {})
say("still here")
"""


@pytest.mark.parametrize("stdout", ["full", "left", "never there"])
def test_a_program_whose_events_nobody_takes_goes_on_and_ends_well(stdout: str) -> None:
    """Nothing on stderr but its own words, and exit code 0: not even the interpreter's last flush fails."""
    reader, writer = os.pipe()
    os.close(reader)
    if stdout == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-c", _TWO_EVENTS]
    if stdout == "never there":
        command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)

    assert (ended.returncode, ended.stderr) == (0, "still here\n")


def test_a_pipe_that_nobody_reads_stops_nothing() -> None:
    """Once it is full, events are left out; what was written is whole lines."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader:
        with os.fdopen(writing, "w") as writer:
            on_event = json_events(writer)
            for number in range(10_000):  # many times what a pipe holds
                on_event("job", {"job_id": f"job-{number}"})
        lines = reader.read().splitlines()

    assert 100 < len(lines) < 10_000
    assert [json.loads(line)["job_id"] for line in lines] == [f"job-{n}" for n in range(len(lines))]


def test_an_explanation_that_nobody_can_read_disturbs_nobody() -> None:
    """A terminal that was closed ends no program."""
    with contextlib.redirect_stderr(FullStream()):
        say("hello")


def test_a_failure_is_a_sentence_on_stderr_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stdout, which is for results."""
    with pytest.raises(SystemExit) as end:
        fail("the port is in use", ExitCode.UNAVAILABLE)

    assert end.value.code == 69
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "provider-agent: the port is in use\n")


def test_an_explanation_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a secret can stand alone on stdout."""
    say("shown once")

    assert capsys.readouterr().err == "shown once\n"


def test_of_many_names_some_are_said() -> None:
    """And how many there are besides; of none, none."""
    assert named(("a", "b"), 2) == "a, b"
    assert named(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert named([]) == ""
