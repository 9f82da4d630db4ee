"""The entry `provider-agent`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from provider_agent import __version__
from provider_agent.cli.main import build, main, with_command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of one call with an empty environment."""
    with pytest.raises(SystemExit) as end:
        main(arguments, {})
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_the_version_is_printed_alone(capsys: pytest.CaptureFixture[str], arguments: tuple[str]) -> None:
    """So that a script can read it."""
    assert run(capsys, *arguments) == (0, f"provider-agent {__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """With one line each."""
    code, out, _ = run(capsys, option)

    assert code == 0
    for command in ("run", "demo", "coordinator", "simulate", "validate", "bench", "version"):
        assert f" {command} " in out


def test_help_flows_and_keeps_what_stands_in_brackets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the source are not those of the terminal, and a bracket is no markup."""
    monkeypatch.setenv("COLUMNS", "80")

    code, out, _ = run(capsys, "run", "--help")

    assert code == 0
    assert "as                \n PROVIDER_AGENT__COORDINATOR__URL and so on. The first Ctrl-C" in out
    assert "[default: agent.toml here" in out


def paths(command: Any) -> Iterator[Any]:
    """What typer was told of each path, of this command and of those below it."""
    kinds = [parameter.type_descriptor for parameter in command.params]
    yield from (kind.parameter_info for kind in kinds if kind.annotation is Path)
    for inner in getattr(command, "commands", {}).values():
        yield from paths(inner)


def test_a_path_that_cannot_be_read_is_no_usage_error() -> None:
    """What reads it says so in one sentence, and exits with 78, as for a path that does not exist."""
    told = list(paths(typer.main.get_command(build())))

    assert told
    assert not any(path.readable for path in told)


def test_an_empty_line_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a usage error, though: nothing was run."""
    code, out, err = run(capsys)

    assert (code, out) == (64, "")
    for line in ("provider-agent demo", "provider-agent --config agent.toml", "coordinator --dev"):
        assert line in err


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("version", "--loud"), ("version", "more"), ("coordinator", "--lisen", "x")]
)
def test_an_unknown_word_or_flag_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """Field note 50: nothing on the command line is ignored; exit code 64."""
    code, out, err = run(capsys, *arguments)

    assert (code, out) == (64, "")
    assert "Usage: provider-agent" in err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--config", "agent.toml"], ["run", "--config", "agent.toml"]),
        (["--config=agent.toml", "--json"], ["run", "--config=agent.toml", "--json"]),
        (["-c", "agent.toml"], ["run", "-c", "agent.toml"]),
        (["run", "--config", "agent.toml"], ["run", "--config", "agent.toml"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        (["demo", "--once"], ["demo", "--once"]),
        ([], []),
    ],
)
def test_a_line_that_begins_with_an_option_is_a_run(given: list[str], meant: list[str]) -> None:
    """Unless the option is the entry's own."""
    assert with_command(given, {}) == meant


def test_where_the_environment_names_a_coordinator_an_empty_line_is_a_run() -> None:
    """Containers have no file."""
    assert with_command([], {"PROVIDER_AGENT__COORDINATOR__URL": "wss://x"}) == ["run"]


def test_no_program_is_loaded_before_it_is_asked_for() -> None:
    """Start-up time: the command line alone needs typer, and none of what the programs need."""
    heavy = ("aiohttp", "alembic", "cryptography", "msgspec", "rich", "sqlalchemy", "structlog", "websockets")
    code = f"import sys, provider_agent.cli.main as m; m.build(); print({heavy!r} & sys.modules.keys())"
    code = code.replace(repr(heavy), f"set({heavy!r})")

    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert loaded.stdout == "set()\n"
