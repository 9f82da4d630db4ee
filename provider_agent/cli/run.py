"""The command `run` as typer knows it; knows nothing of what it runs."""

from pathlib import Path
from typing import Annotated

import typer

from provider_agent.cli.serving import serve

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        readable=False,  # load() says it in one sentence, and exits with 78
        help="The settings [default: agent.toml here, per user, or in /etc].",
    ),
]


def register(app: typer.Typer) -> None:
    """Add `run`."""
    app.command("run")(run)


def run(
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Share the engines of this machine with a coordinator.

    Each setting of the file can also come from the environment, as PROVIDER_AGENT__COORDINATOR__URL
    and so on. The first Ctrl-C or SIGTERM finishes running jobs, the second ends at once.
    """
    raise typer.Exit(serve(config, as_json=json))
