"""The command `validate`: says what a configuration means and which engines answer; changes nothing."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider_agent.cli.output import ExitCode, fail, print_json
from provider_agent.cli.run import ConfigFile

if TYPE_CHECKING:
    from provider_agent.agent.config import AgentConfig
    from provider_agent.agent.routing import RoutingTable
    from provider_agent.backends.discovery import Catalog
    from provider_agent.cli.validate_engines import Troubled, Unrecognised
    from provider_agent.cli.validate_live import Wish

LIMIT_S = 120.0


def register(app: typer.Typer) -> None:
    """Add `validate`."""
    app.command("validate")(validate)


def validate(
    config: ConfigFile = None,
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Let each model answer a few tokens at each endpoint.")
    ] = False,
    model: Annotated[str | None, typer.Option(metavar="GLOB", help="With --live: only these models.")] = None,
    paid: Annotated[
        bool, typer.Option("--paid", help="With --live: engines of others, too, which may charge for it.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help=f"With --live: for each answer [default: {LIMIT_S:g}].",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document.")] = False,
) -> None:
    """Check the settings, ask the engines, and show what would be offered.

    Exits with 0 when the settings can be used, else with 78. An engine that does not answer now
    is shown, but is no error: `run` waits for it. With --live it is one, and so is a model that
    does not answer: 69.
    """
    from provider_agent.agent.config import ConfigError, load
    from provider_agent.cli import loop
    from provider_agent.cli.validate_live import NothingToTryError, Wish
    from provider_agent.telemetry import logs

    if not live and (model is not None or paid or timeout is not None):
        fail("--model, --paid and --timeout say how to try engines: add --live", ExitCode.USAGE)
    logs.configure("error", "auto")
    wish = Wish(model, paid=paid, limit_s=timeout or LIMIT_S) if live else None
    try:
        settings = load(config, os.environ)
        findings = loop.run(_look(settings, wish))
    except ConfigError as error:
        if json:
            print_json({"valid": False, "error": str(error)})
        fail(str(error), ExitCode.CONFIG)
    except NothingToTryError as error:
        fail(str(error), ExitCode.NOT_FOUND)
    if json:
        print_json(findings)
    else:
        from provider_agent.cli.validate_view import show

        show(findings)
    raise typer.Exit(code_of(findings))


async def _look(config: "AgentConfig", wish: "Wish | None") -> dict[str, Any]:
    from provider_agent.agent.app import policy_of
    from provider_agent.agent.report import ports_of
    from provider_agent.agent.routing import RoutingTable
    from provider_agent.backends.discovery import Discovery
    from provider_agent.backends.http import EngineHttp
    from provider_agent.cli.signals import stop_on_signals
    from provider_agent.cli.validate_engines import misnamed, troubles, unrecognised
    from provider_agent.cli.validate_live import all_answered, as_values, try_offer
    from provider_agent.cli.validate_names import name_problems
    from provider_agent.cli.validate_schedule import schedule_problems
    from provider_agent.cli.validate_start import start_problems

    settings = config.backend_settings(os.environ)
    async with EngineHttp() as http:
        catalog = await Discovery(settings, http, probe_loopback=config.discovery.enabled).refresh()
        troubled, unknown, other_kinds = await asyncio.gather(
            troubles(catalog), unrecognised(settings, catalog, http), misnamed(settings, catalog, http)
        )
        problems = [
            *start_problems(config),
            *schedule_problems(config.schedule, ports_of(catalog), time.time()),
            *(each.problem for each in troubled),
            *(each.problem for each in unknown),
            *other_kinds,
        ]
        table = RoutingTable(catalog, policy_of(config))
        findings = describe(config, table, _backends(catalog, troubled, unknown))
        errors = [problem.text for problem in problems if problem.level == "error"]
        if _is_complete(findings):
            problems += name_problems(config, [offer.model_id for offer in table.offers])
        findings |= {"valid": False, "error": errors[0]} if errors else {}
        findings["problems"] = [problem._asdict() for problem in problems]
        if wish is not None:
            with stop_on_signals() as stop:
                results = await try_offer(config, table, wish, stop)
            findings["trials"] = as_values(results)
            findings["all_answered"] = all_answered(results) and (
                wish.model is not None or _is_complete(findings)
            )
    return findings


def _is_complete(findings: dict[str, Any]) -> bool:
    """Every engine is there, and something would be offered."""
    return bool(findings["models"]) and all(backend["healthy"] for backend in findings["backends"])


def describe(config: "AgentConfig", table: "RoutingTable", backends: list[dict[str, Any]]) -> dict[str, Any]:
    """What was found, in plain values; secrets are not among them."""
    from provider_agent.cli.validate_start import coordinator_that_knows

    return {
        "valid": True,
        "file": str(config.origin.file) if config.origin.file else None,
        "variables": sorted(config.origin.variables.values()),
        "coordinator": config.coordinator.url,
        "identity": {
            "key_path": str(config.identity.key_path),
            "exists": os.access(config.identity.key_path, os.F_OK),
            "known_at": coordinator_that_knows(config),
        },
        "backends": backends,
        "models": _models(table),
    }


def _backends(
    catalog: "Catalog", troubled: "Sequence[Troubled]", unknown: "Sequence[Unrecognised]"
) -> list[dict[str, Any]]:
    """The engines of the catalog, and those that were named, but not recognised."""
    trouble = {each.backend.url: each.state for each in troubled}
    found = [
        {
            "name": entry.backend.name,
            "kind": entry.backend.kind,
            "url": entry.backend.url,
            "healthy": entry.healthy,
            "state": "answers" if entry.healthy else trouble[entry.backend.url],
            "models": [model.model_id for model in entry.models],
        }
        for entry in catalog.entries
    ]
    return found + [
        {
            "name": each.settings.name,
            "kind": each.settings.kind,
            "url": each.settings.url,
            "healthy": False,
            "state": each.state,
            "models": [],
        }
        for each in unknown
    ]


def _models(table: "RoutingTable") -> list[dict[str, Any]]:
    return [
        {
            "model_id": offer.model_id,
            "backend": offer.backend,
            "endpoints": sorted(offer.endpoints),
            "max_concurrent": offer.max_concurrent,
            "context_window": offer.context_window,
            "warm": offer.warm,
            "features": offer.features,
            "input_per_1m": offer.input_per_1m,
            "output_per_1m": offer.output_per_1m,
        }
        for offer in table.offers
    ]


def code_of(findings: dict[str, Any]) -> ExitCode:
    """What the settings are worth comes first; engines are judged only when they were tried."""
    if not findings["valid"]:
        return ExitCode.CONFIG
    return ExitCode.OK if findings.get("all_answered", True) else ExitCode.UNAVAILABLE
