"""The commands `coordinator …`: run one, and say who may use it; knows no network and no database."""

import typer


def register(app: typer.Typer) -> None:
    """Add the group `coordinator`."""
    app.add_typer(typer.Typer(help="Run a coordinator, and say who may use it."), name="coordinator")
