"""All commands together."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from provider_agent.cli.commands import build
from provider_agent.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of one call with an empty environment."""
    with pytest.raises(SystemExit) as end:
        main(arguments, {})
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


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


def test_no_program_is_loaded_before_it_is_asked_for() -> None:
    """Start-up time: the command line alone needs typer, and none of what the programs need."""
    heavy = ("aiohttp", "alembic", "cryptography", "msgspec", "rich", "sqlalchemy", "structlog", "websockets")
    code = f"import sys, provider_agent.cli.commands as m; m.build(); print({heavy!r} & sys.modules.keys())"
    code = code.replace(repr(heavy), f"set({heavy!r})")

    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert loaded.stdout == "set()\n"
