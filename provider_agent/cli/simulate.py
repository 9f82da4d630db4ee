"""The command `simulate`: runs an engine that has no model; knows no API."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from provider_agent.cli.output import ExitCode, OnEvent, fail, json_events, named, say

if TYPE_CHECKING:
    from provider_agent.simulator import SimulatorConfig

DEFAULT_PORT = 8123


class Api(StrEnum):
    """Which engine family it speaks like."""

    openai = "openai"
    vllm = "vllm"
    sglang = "sglang"
    llamacpp = "llamacpp"
    llamacpp_router = "llamacpp-router"
    llamafile = "llamafile"
    lmstudio = "lmstudio"
    ollama = "ollama"
    tgi = "tgi"
    localai = "localai"
    koboldcpp = "koboldcpp"
    jan = "jan"
    docker = "docker"
    transformers = "transformers"
    mlx = "mlx"
    llamacpp_python = "llamacpp-python"
    remote = "remote"


def register(app: typer.Typer) -> None:
    """Add `simulate`."""
    app.command("simulate")(simulate)


def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free port.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What to offer; may be given more than once."),
    ] = None,
    api: Annotated[
        Api,
        typer.Option(
            "--api",
            "--engine",
            help="Which engine it speaks like: pages, endpoints and habits; `openai` is nobody special.",
        ),
    ] = Api.openai,
    tokens_per_second: Annotated[
        float, typer.Option(min=0, metavar="N", help="Of each answer; 0 is as fast as possible.")
    ] = 40.0,
    first_token_ms: Annotated[
        float, typer.Option(min=0, metavar="N", help="From the request to the first token.")
    ] = 200.0,
    slots: Annotated[int, typer.Option(min=1, metavar="N", help="Answers at a time; others wait.")] = 4,
    load_s: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="N",
            help="How long loading takes: of each cold model at its first request, or of the engine at its "
            "start, as the engine does it.",
        ),
    ] = 0.0,
    context_window: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Prompt and answer.")] = 32_768,
    fail_with: Annotated[
        list[str] | None,
        typer.Option(
            "--fail",
            metavar="ORDER",
            help="What goes wrong in every answer: status=429, error-after=5, cut-after=5, end-after=5, "
            "silence-after=5, html, empty, no-done, slow-headers=2000. A request can order the same "
            "in its header X-Simulate.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Run an engine without a GPU: readable text at a set speed, and failures on order."""
    from provider_agent.cli.loop import run
    from provider_agent.simulator import Failures, Pace, SimulatorConfig
    from provider_agent.simulator.failures import UnknownFailure
    from provider_agent.transport.dialling import in_words

    try:
        failures = Failures.parse(fail_with or ())
    except UnknownFailure as error:
        raise typer.BadParameter(str(error), param_hint="--fail") from error
    config = SimulatorConfig(
        host=host,
        port=port,
        api=api.value,
        models=tuple(model) if model else SimulatorConfig().models,
        pace=Pace(first_token_ms / 1000, tokens_per_second),
        slots=slots,
        context_window=context_window,
        load_s=load_s,
        failures=failures,
    )
    try:
        run(_until_signal(config, json_events() if json else _print_event))
    except OSError as error:
        fail(
            f"cannot listen on {host} port {port}: {in_words(error)}; choose another --port",
            ExitCode.UNAVAILABLE,
        )


async def _until_signal(config: "SimulatorConfig", on_event: OnEvent) -> None:
    from provider_agent.cli.signals import stop_on_signals
    from provider_agent.simulator import Simulator

    with stop_on_signals() as stop:
        async with Simulator(config) as simulator:
            facts = {"url": simulator.url, "port": simulator.port, "models": list(config.models)}
            on_event("listening", {**facts, "api": config.api})
            await stop.wait()
    on_event("stopped", {})


def _print_event(name: str, fields: dict[str, object]) -> None:
    if name == "listening":
        names = named(fields["models"])
        say(f"Simulating {fields['api']} at {fields['url']} with {names}; Ctrl-C stops.")
