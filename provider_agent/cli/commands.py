"""All commands as one typer application; knows none of the programs behind them.

Start-up time is a promise: the command modules import typer and the standard library at the top, and
a program only inside the command that runs it.
"""

import typer

from provider_agent import __version__
from provider_agent.cli import bench, coordinator, demo, run, simulate, validate


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
