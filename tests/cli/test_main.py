"""The entry `provider-agent`."""

import subprocess
import sys

import pytest

from provider_agent import __version__
from provider_agent.cli.main import main, with_command


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
    for command in ("run", "demo", "coordinator", "simulate", "validate", "version"):
        assert f" {command} " in out


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
