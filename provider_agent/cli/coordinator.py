"""The command `coordinator`: runs one; knows no network and no database."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider_agent.cli import coordinator_access
from provider_agent.cli.output import ExitCode, OnEvent, counted_jobs, fail, json_events, named, say

if TYPE_CHECKING:
    from provider_agent.coordinator.config import CoordinatorConfig

_SHOWN = frozenset({
    "listening", "draining", "stopped",
    "agent_joined", "agent_left", "agent_away", "agent_back", "capabilities_taken",
})  # fmt: skip
"""Events that are printed; those of jobs are for the log and the metrics."""

_NEXT_STEPS_DEV = """\
Listening on {url} (dev: no keys, this machine only).
  Share an engine:
    PROVIDER_AGENT__COORDINATOR__URL={agents_url} \\
    provider-agent
  Ask:
    curl {url}/v1/models"""

_NEXT_STEPS = """\
Listening on {url}.
  Let an agent in:  provider-agent coordinator token create{data}
  Let a client in:  provider-agent coordinator key create NAME{data}
  Agents dial:      {agents_url}"""


def register(app: typer.Typer) -> None:
    """Add `coordinator` and the commands below it."""
    group = typer.Typer(help="Run a coordinator, and say who may use it.", invoke_without_command=True)
    group.callback()(coordinator)
    coordinator_access.register(group)
    app.add_typer(group, name="coordinator")


def coordinator(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen, unless on 127.0.0.1:8700.")
    ] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="No keys, any agent may enrol, nothing is kept; this machine only.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", readable=False, help="Where the database is, unless in your data folder."
        ),
    ] = None,
    server_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name that agents dial, in place of this machine's own; may be given more than once.",
        ),
    ] = None,
    allow_legacy_auth: Annotated[
        bool, typer.Option("--allow-legacy-auth", help="Take the unbound signatures of protocol 2, too.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="Certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="Its private key, PEM.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error; info unless told.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Run a coordinator, and say who may use it.

    Every setting can also come from the environment, as PROVIDER_COORDINATOR__LISTEN and so on.
    """
    flags: dict[str, object] = {
        "listen": listen,
        "dev": dev or None,
        "data": data,
        "server_names": server_name or None,
        "allow_legacy_auth": allow_legacy_auth or None,
        "tls_cert_file": tls_cert,
        "tls_key_file": tls_key,
        "log_level": log_level,
    }
    if context.invoked_subcommand is not None:
        if json:
            raise typer.BadParameter("put it behind the command", param_hint="--json")
        context.obj = flags
        return
    raise typer.Exit(_serve(flags, json_events() if json else partial(_print_event, data=data)))


def _serve(flags: dict[str, object], on_event: OnEvent) -> int:
    """Run until a signal; a settings error ends in 78, a port in use in 69."""
    from provider_agent.cli.loop import run
    from provider_agent.coordinator.app import CannotListen
    from provider_agent.coordinator.config import ConfigError, load
    from provider_agent.coordinator.store.base import StoreError
    from provider_agent.telemetry import logs

    try:
        config = load(flags, os.environ)
        logs.configure(config.log_level, config.log_format)
        return run(_until_signal(config, _only_shown(on_event)))
    except CannotListen as error:
        fail(str(error), ExitCode.UNAVAILABLE if error.in_use else ExitCode.CONFIG)
    except (ConfigError, StoreError) as error:
        fail(str(error), ExitCode.CONFIG)


async def _until_signal(config: "CoordinatorConfig", on_event: OnEvent) -> int:
    from provider_agent.cli.signals import stop_on_signals
    from provider_agent.coordinator import app

    with stop_on_signals() as stop:
        return await app.run(config, stop=stop, on_event=on_event)


def _only_shown(on_event: OnEvent) -> OnEvent:
    def shown(name: str, fields: dict[str, object]) -> None:
        if name in _SHOWN:
            on_event(name, fields)

    return shown


def _print_event(name: str, fields: dict[str, object], data: Path | None = None) -> None:
    """Sentences for a person; commands to copy name the folder that this one was given."""
    match name:
        case "listening":
            folder = "" if data is None else f" --data {shlex.quote(str(data))}"
            say((_NEXT_STEPS_DEV if fields["dev"] else _NEXT_STEPS).format(data=folder, **fields))
        case "draining" if fields["running_jobs"]:
            say(f"Finishing {counted_jobs(fields['running_jobs'])}; Ctrl-C once more stops at once.")
        case "capabilities_taken":
            names = named(fields["models"]) or "nothing now"
            say(f"Agent {fields['name'] or fields['provider_id']} offers {names}.")
        case "agent_away":
            say(f"Agent {fields['name'] or fields['provider_id']} lost its connection; its jobs wait for it.")
        case "agent_back":
            say(f"Agent {fields['name'] or fields['provider_id']} is back.")
        case "agent_left":
            say(f"Agent {fields['name'] or fields['provider_id']} left.")
        case _:
            pass
