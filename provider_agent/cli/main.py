"""The entry `provider-agent`: puts the commands together; knows none of the programs behind them.

Start-up time is a promise: this module and the command modules import typer and the standard
library at the top, and a program only inside the command that runs it.
"""

import os
import sys
from collections.abc import Mapping, Sequence

import typer

from provider_agent import __version__
from provider_agent.cli import bench, coordinator, demo, run, simulate, validate
from provider_agent.cli.output import ExitCode

_TYPERS_USAGE_ERROR = 2
"""What typer exits with when the command line is wrong; no command of ours uses it."""

_OWN_OPTIONS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})

_WHAT_TO_DO = """\
Nothing to run yet. One of these is the next step:

  provider-agent demo                        see everything work on this machine
  provider-agent coordinator --dev           start a coordinator on this machine, without keys
  provider-agent --config agent.toml         share the engine on this machine
  provider-agent --help                      all commands
"""


def build() -> typer.Typer:
    """The command line as one typer application; every module of commands adds its own."""
    app = typer.Typer(
        name="provider-agent",
        help="Share the LLM engine on your own machine, or coordinate those who do.",
        epilog="`provider-agent --config agent.toml` is short for `provider-agent run --config agent.toml`.",
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="markdown",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # it prints local variables, and with them secrets
    )
    app.callback()(_root)
    run.register(app)
    demo.register(app)
    coordinator.register(app)
    simulate.register(app)
    validate.register(app)
    bench.register(app)
    app.command("version")(version)
    return app


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Run the command line and exit; a command line that cannot be read exits with 64."""
    given = sys.argv[1:] if arguments is None else arguments
    chosen = with_command(given, environ)
    if not chosen:
        sys.stderr.write(_WHAT_TO_DO)
        sys.exit(ExitCode.USAGE)
    try:
        build()(chosen, prog_name="provider-agent")
    except SystemExit as end:
        if end.code == _TYPERS_USAGE_ERROR:
            sys.exit(ExitCode.USAGE)
        raise


def with_command(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The arguments with `run` put in where it goes without saying.

    1. A line that begins with an option is a `run`, unless the option is one of the entry's own.
    2. An empty line is a `run` where the environment names a coordinator: containers have no file.
    3. Any other empty line stays empty.
    """
    if arguments and arguments[0].startswith("-") and arguments[0].split("=")[0] not in _OWN_OPTIONS:  # 1
        return ["run", *arguments]
    if not arguments and "PROVIDER_AGENT__COORDINATOR__URL" in environ:  # 2
        return ["run"]
    return list(arguments)  # 3


def version() -> None:
    """Print the version."""
    typer.echo(f"provider-agent {__version__}")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


def _root(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Share the LLM engine on your own machine, or coordinate those who do."""
