"""What commands say, and where."""

import io
import json
from pathlib import Path

import pytest
import typer

from provider_agent.cli.output import ExitCode, fail, json_events, print_json, say


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


def test_a_failure_is_a_sentence_on_stderr_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stdout, which is for results."""
    with pytest.raises(typer.Exit) as end:
        fail("the port is in use", ExitCode.UNAVAILABLE)

    assert end.value.exit_code == 69
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "provider-agent: the port is in use\n")


def test_an_explanation_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a secret can stand alone on stdout."""
    say("shown once")

    assert capsys.readouterr().err == "shown once\n"
