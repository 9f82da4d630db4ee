"""The command `bench`: measures an endpoint from outside; knows no HTTP."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from provider_agent.cli.output import ExitCode, fail, print_json, say

if TYPE_CHECKING:
    from provider_agent.cli.bench_client import EndpointFailed
    from provider_agent.cli.bench_plan import Effort, Findings

MAX_STREAMS = 1000


def register(app: typer.Typer) -> None:
    """Add `bench`."""
    app.command("bench")(bench)


def bench(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Of the endpoint, such as http://127.0.0.1:8700.")
    ],
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to ask [default: the first that is offered].")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the API key.")
    ] = None,
    streams: Annotated[int, typer.Option(min=1, max=MAX_STREAMS, metavar="N", help="Clients at once.")] = 8,
    tokens: Annotated[
        int, typer.Option(min=2, max=100_000, metavar="N", help="Of each answer that is waited for.")
    ] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document.")] = False,
) -> None:
    """Measure an OpenAI-compatible endpoint: speed, what leaving clients leave behind, stalled readers.

    It asks for a few dozen answers, some of them long; mind what they cost where tokens do.
    """
    from provider_agent.backends.address import BadAddress, normalise
    from provider_agent.cli import loop
    from provider_agent.cli.bench_client import EndpointFailed
    from provider_agent.cli.bench_plan import Effort

    try:
        base = normalise(url)
        findings = loop.run(_measure(base, model, _key(api_key_env), Effort(streams=streams, tokens=tokens)))
    except BadAddress as error:
        fail(f"{url!r} is no URL of an endpoint: {error.reason}", ExitCode.USAGE)
    except EndpointFailed as error:
        fail(f"{url}: {error}", _code_of(error))
    if json:
        print_json(asdict(findings))
    else:
        from provider_agent.cli.bench_view import show

        show(findings)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        fail(f"the environment variable {variable} is not set; it should hold the API key", ExitCode.CONFIG)
    return key


async def _measure(base: str, model: str | None, key: str | None, effort: "Effort") -> "Findings":
    from provider_agent.cli.bench_client import Endpoint
    from provider_agent.cli.bench_plan import Plan

    async with Endpoint(base, key) as endpoint:
        offered = await endpoint.models()
        chosen = model or next((name for name in offered if "embed" not in name.lower()), None)
        if chosen is None or (offered and chosen not in offered):
            wanted = "a model for chats" if chosen is None else chosen
            fail(f"{base} does not offer {wanted}; it offers {_some(offered)}", ExitCode.NOT_FOUND)
        return await Plan(endpoint, chosen, effort, on_step=_tell).run(base)


def _tell(step: str) -> None:
    say(f"measuring: {step}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "nothing"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004


def _code_of(error: "EndpointFailed") -> ExitCode:
    """Another key is for the user to give; all else may be over later."""
    return ExitCode.CONFIG if error.status in (401, 403) else ExitCode.UNAVAILABLE
