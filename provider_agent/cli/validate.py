"""The command `validate`: says what a configuration means and which engines answer; changes nothing."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider_agent.cli.output import ExitCode, fail, print_json
from provider_agent.cli.run import ConfigFile

if TYPE_CHECKING:
    from provider_agent.agent.config import AgentConfig
    from provider_agent.backends.discovery import Catalog


def register(app: typer.Typer) -> None:
    """Add `validate`."""
    app.command("validate")(validate)


def validate(
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document.")] = False,
) -> None:
    """Check the settings, ask the engines, and show what would be offered.

    Exits with 0 when the settings can be used, else with 78. An engine that does not answer now
    is shown, but is no error: `run` waits for it.
    """
    from provider_agent.agent.config import ConfigError, load
    from provider_agent.cli import loop
    from provider_agent.telemetry import logs

    logs.configure("error", "auto")
    try:
        settings = load(config, os.environ)
        catalog = loop.run(_probe(settings))
    except ConfigError as error:
        if json:
            print_json({"valid": False, "error": str(error)})
        fail(str(error), ExitCode.CONFIG)
    findings = describe(settings, catalog)
    if json:
        print_json(findings)
    else:
        from provider_agent.cli.validate_view import show

        show(findings)


async def _probe(config: "AgentConfig") -> "Catalog":
    from provider_agent.backends.discovery import Discovery
    from provider_agent.backends.http import EngineHttp

    async with EngineHttp() as http:
        settings = config.backend_settings(os.environ)
        return await Discovery(settings, http, probe_loopback=config.discovery.enabled).refresh()


def describe(config: "AgentConfig", catalog: "Catalog") -> dict[str, Any]:
    """What was found, in plain values; secrets are not among them."""
    from provider_agent.agent.app import policy_of
    from provider_agent.agent.routing import RoutingTable

    offers = RoutingTable(catalog, policy_of(config)).offers
    return {
        "valid": True,
        "file": str(config.origin.file) if config.origin.file else None,
        "variables": sorted(config.origin.variables.values()),
        "coordinator": config.coordinator.url,
        "identity": {
            "key_path": str(config.identity.key_path),
            "exists": config.identity.key_path.exists(),
        },
        "backends": [
            {
                "name": entry.backend.name,
                "kind": entry.backend.kind,
                "url": entry.backend.url,
                "healthy": entry.healthy,
                "models": [model.model_id for model in entry.models],
            }
            for entry in catalog.entries
        ],
        "models": [
            {
                "model_id": offer.model_id,
                "backend": offer.backend,
                "endpoints": sorted(offer.endpoints),
                "max_concurrent": offer.max_concurrent,
                "context_window": offer.context_window,
                "input_per_1m": offer.input_per_1m,
                "output_per_1m": offer.output_per_1m,
            }
            for offer in offers
        ],
    }
