"""The command `demo`: everything on this machine in one terminal; knows no part of it."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from provider_agent.cli.output import ExitCode, fail

if TYPE_CHECKING:
    from provider_agent.cli.demo_view import View

PROMPT = "In three sentences: what makes a good lighthouse keeper?"


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the first answer.")] = False,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Use the simulated engine, whatever this machine has.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of an engine on this machine [default: the first].")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Of the coordinator; a free one if it is taken.")
    ] = 8700,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = PROMPT,
) -> None:
    """Watch a prompt go from a client to an engine, and its answer come back.

    Starts a coordinator and an agent, with an engine that answers on this machine or a simulated
    one, asks it something, and keeps running for your own requests.
    """
    from provider_agent.cli import loop
    from provider_agent.cli.demo_chat import ChatFailed
    from provider_agent.cli.demo_parts import DemoFailed, Wish
    from provider_agent.cli.demo_show import Show, show
    from provider_agent.telemetry import logs

    logs.configure("critical", "auto")  # what goes wrong is said in one sentence below
    wish = Wish(simulated_only=simulated, model=model, port=port)
    try:
        code = loop.run(show(Show(prompt, wish, once), _view()))
    except (DemoFailed, ChatFailed) as error:
        fail(f"the demo failed: {error}", ExitCode.UNAVAILABLE)
    raise typer.Exit(code)


def _view() -> "View":
    if not sys.stdout.isatty():
        from provider_agent.cli.demo_view import PlainView

        return PlainView()
    from provider_agent.cli.demo_terminal import TerminalView

    return TerminalView()
