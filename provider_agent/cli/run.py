"""The command `run`: shares the engines of this machine; knows no session and no engine."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider_agent.cli.output import ExitCode, OnEvent, fail, json_events, say

if TYPE_CHECKING:
    from provider_agent.agent.config import AgentConfig

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
    from provider_agent.agent.config import ConfigError, load
    from provider_agent.agent.identity import IdentityError
    from provider_agent.cli import loop

    try:
        settings = load(config, os.environ)
        code = loop.run(_until_signal(settings, json_events() if json else _print_event))
    except (ConfigError, IdentityError) as error:
        fail(str(error), ExitCode.CONFIG)
    raise typer.Exit(code)


async def _until_signal(config: "AgentConfig", on_event: OnEvent) -> int:
    from provider_agent.agent import app
    from provider_agent.cli.signals import stop_on_signals
    from provider_agent.telemetry import logs

    logs.configure(config.log.level, config.log.format)
    with stop_on_signals() as stop:
        return await app.run(config, stop=stop, on_event=on_event)


def _print_event(name: str, fields: dict[str, object]) -> None:
    """Sentences for a person at a terminal; where nobody looks, the log says all there is to say."""
    if not sys.stderr.isatty():
        return
    match name:
        case "ready":
            say(f"Serving {_names(fields['models'])}; Ctrl-C finishes running jobs and stops.")
        case "draining" if fields["active_jobs"]:
            jobs = "1 running job" if fields["active_jobs"] == 1 else f"{fields['active_jobs']} running jobs"
            say(f"Finishing {jobs}; Ctrl-C once more stops at once.")
        case _:
            pass


def _names(models: object) -> str:
    return ", ".join(models) if isinstance(models, list) else ""
