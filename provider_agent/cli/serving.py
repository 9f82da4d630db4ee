"""Serves with the engines of this machine until told to stop; knows no session, no engine and no typer.

It is what runs for weeks beside an engine: what only a command line needs stays out of its memory.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from provider_agent.cli.output import ExitCode, OnEvent, counted_jobs, fail, json_events, named, say

if TYPE_CHECKING:
    from provider_agent.agent.config import AgentConfig


def serve(config: Path | None, *, as_json: bool) -> int:
    """Run the agent to its end; gives the exit code. With `as_json` its events are lines of JSON."""
    from provider_agent.agent.config import ConfigError, load
    from provider_agent.agent.identity import IdentityError
    from provider_agent.cli import loop

    try:
        settings = load(config, os.environ)
        return loop.run(_until_signal(settings, json_events() if as_json else _print_event))
    except (ConfigError, IdentityError) as error:
        fail(str(error), ExitCode.CONFIG)


async def _until_signal(config: "AgentConfig", on_event: OnEvent) -> int:
    from provider_agent.agent import app
    from provider_agent.cli.signals import reload_on_hangup, stop_on_signals
    from provider_agent.telemetry import logs

    logs.configure(config.log.level, config.log.format)
    with stop_on_signals() as stop, reload_on_hangup(stop) as reload:
        return await app.run(config, stop=stop, reload=reload, on_event=on_event)


def _print_event(name: str, fields: dict[str, object]) -> None:
    """Sentences for a person at a terminal; where nobody looks, the log says all there is to say."""
    if not sys.stderr.isatty():
        return
    match name:
        case "ready":
            say(f"Serving {named(fields['models'])}; Ctrl-C finishes running jobs and stops.")
        case "draining" if fields["active_jobs"]:
            say(f"Finishing {counted_jobs(fields['active_jobs'])}; Ctrl-C once more stops at once.")
        case _:
            pass
