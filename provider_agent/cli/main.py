"""The entry `provider-agent`: finds the command that is meant; knows none of the programs behind them.

The agent itself, in the way that services and containers start it, is run without typer: that takes 10 MB
and a fifth of a second, of which a small machine has better use.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider_agent.cli.output import ExitCode

_TYPERS_USAGE_ERROR = 2
"""What typer exits with when the command line is wrong; no command of ours uses it."""

_OWN_OPTIONS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})

_WHAT_TO_DO = """\
There is no agent.toml yet to run by. One of these is the next step:

  provider-agent demo                    see everything work on this machine
  provider-agent coordinator --dev       a coordinator without keys, for a try
  provider-agent --config agent.toml     share the engines of this machine
  provider-agent --help                  all commands
"""


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    search: Iterable[Path] | None = None,
) -> None:
    """Run the command line and exit; a command line that cannot be read exits with 64."""
    given = sys.argv[1:] if arguments is None else arguments
    chosen = with_command(given, environ, search)
    if not chosen:
        sys.stderr.write(_WHAT_TO_DO)
        sys.exit(ExitCode.USAGE)
    plain = as_plain_run(chosen)
    if plain is not None:
        from provider_agent.cli.serving import serve

        sys.exit(serve(plain.config, as_json=plain.as_json))
    from provider_agent.cli.commands import build

    try:
        build()(chosen, prog_name="provider-agent")
    except SystemExit as end:
        if end.code == _TYPERS_USAGE_ERROR:
            sys.exit(ExitCode.USAGE)
        raise


def with_command(
    arguments: Sequence[str], environ: Mapping[str, str], search: Iterable[Path] | None = None
) -> list[str]:
    """The arguments with `run` put in where it goes without saying.

    1. A line that begins with an option is a `run`, unless the option is one of the entry's own.
    2. An empty line is a `run` where the environment names a coordinator (containers have no file), or
       where a file of settings is in one of its usual places, or those of `search`.
    3. Any other empty line stays empty.
    """
    if arguments and arguments[0].startswith("-") and arguments[0].split("=")[0] not in _OWN_OPTIONS:  # 1
        return ["run", *arguments]
    if not arguments and ("PROVIDER_AGENT__COORDINATOR__URL" in environ or _is_there(search)):  # 2
        return ["run"]
    return list(arguments)  # 3


def _is_there(search: Iterable[Path] | None) -> bool:
    from provider_agent.agent.config import default_files

    return any(place.is_file() for place in (default_files() if search is None else search))


@dataclass(frozen=True)
class PlainRun:
    """A `run` that needs no help with its command line."""

    config: Path | None
    as_json: bool


def as_plain_run(chosen: Sequence[str]) -> PlainRun | None:
    """What a simple `run` asks for; None for any line that typer should read, and complain about if it must.

    1. `run`, with `--config FILE`, `-c FILE` or `--config=FILE`, and `--json`, each at most once.
    2. Anything else, or an option without its value.
    """
    command, *rest = chosen
    if command != "run":
        return None
    given: dict[str, str] = {}
    words = iter(rest)
    for word in words:
        name, has_value, value = word.partition("=")
        if word in {"--config", "-c"}:
            name, value = "--config", next(words, "")
        elif not (word == "--json" or (name == "--config" and has_value)):
            return None  # 2
        if name in given or (name == "--config" and (not value or value.startswith("-"))):
            return None
        given[name] = value
    return PlainRun(Path(given["--config"]) if "--config" in given else None, as_json="--json" in given)
