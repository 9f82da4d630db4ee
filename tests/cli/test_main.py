"""The entry `provider-agent`."""

import subprocess
import sys
from pathlib import Path

import pytest

from provider_agent import __version__
from provider_agent.cli.main import PlainRun, as_plain_run, main, with_command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of one call with an empty environment."""
    with pytest.raises(SystemExit) as end:
        main(arguments, {}, search=())
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_the_version_is_printed_alone(capsys: pytest.CaptureFixture[str], arguments: tuple[str]) -> None:
    """So that a script can read it."""
    assert run(capsys, *arguments) == (0, f"provider-agent {__version__}\n", "")


def test_an_empty_line_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a usage error, though: nothing was run."""
    code, out, err = run(capsys)

    assert (code, out) == (64, "")
    for line in ("provider-agent demo", "provider-agent --config agent.toml", "coordinator --dev"):
        assert line in err
    assert max(map(len, err.splitlines())) <= 80


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
    assert with_command(given, {}, search=()) == meant


def test_where_the_environment_names_a_coordinator_an_empty_line_is_a_run() -> None:
    """Containers have no file."""
    assert with_command([], {"PROVIDER_AGENT__COORDINATOR__URL": "wss://x"}, search=()) == ["run"]


def test_where_there_is_a_file_of_settings_an_empty_line_is_a_run(tmp_path: Path) -> None:
    """It would be untrue to say that there is nothing to run."""
    (tmp_path / "agent.toml").touch()

    assert with_command([], {}, search=[tmp_path / "none.toml", tmp_path / "agent.toml"]) == ["run"]


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [
        (["run"], PlainRun(None, as_json=False)),
        (["run", "--config", "a.toml"], PlainRun(Path("a.toml"), as_json=False)),
        (["run", "-c", "a.toml", "--json"], PlainRun(Path("a.toml"), as_json=True)),
        (["run", "--json", "--config=a=b.toml"], PlainRun(Path("a=b.toml"), as_json=True)),
    ],
)
def test_a_simple_run_needs_no_help_with_its_command_line(chosen: list[str], meant: PlainRun) -> None:
    """It is what services and containers start."""
    assert as_plain_run(chosen) == meant


@pytest.mark.parametrize(
    "chosen",
    [
        ["demo"],
        ["run", "--help"],
        ["run", "--confg", "a.toml"],
        ["run", "--config"],
        ["run", "--config", "--json"],
        ["run", "--config="],
        ["run", "--json", "--json"],
        ["run", "--json=yes"],
        ["run", "-c", "a.toml", "--config", "b.toml"],
        ["run", "a.toml"],
    ],
)
def test_anything_else_is_read_by_the_library(chosen: list[str]) -> None:
    """It has a sentence for each mistake, and help."""
    assert as_plain_run(chosen) is None


def test_a_running_agent_has_no_command_line_in_its_memory() -> None:
    """What serves for weeks loads neither typer, nor the coordinator's libraries, nor colours."""
    unwanted = {"typer", "pydantic", "rich", "pygments", "aiohttp", "sqlalchemy", "alembic"}
    code = "import sys, provider_agent.cli.main, provider_agent.cli.serving, provider_agent.agent.app\n"
    code += f"print({unwanted!r} & sys.modules.keys())"

    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert loaded.stdout == "set()\n"
