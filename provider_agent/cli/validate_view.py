"""How the findings of `validate` look on a terminal; knows nothing but the findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Findings = Mapping[str, Any]


def show(findings: Findings, console: Console | None = None) -> None:
    """Print them: where the settings came from, the engines, the offer."""
    out = Console(highlight=False) if console is None else console
    out.print(_sources(findings), "", _engines(findings["backends"]), "", sep="\n")
    if findings["models"]:
        out.print(_offer(findings["models"]))
    else:
        out.print("Nothing would be offered now. Start an engine, or look at models.expose and models.hide.")


def _sources(findings: Findings) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    grid.add_row("settings", findings["file"] or "no file")
    if findings["variables"]:
        grid.add_row("", ", ".join(findings["variables"]))
    grid.add_row("coordinator", findings["coordinator"])
    identity = findings["identity"]
    grid.add_row("identity", identity["key_path"] + ("" if identity["exists"] else " (made on first use)"))
    return grid


def _engines(backends: Sequence[Findings]) -> Table | Text:
    if not backends:
        return Text("No engine is configured, and none was found on this machine.", style="yellow")
    table = _table("engine", "kind", "address", "state", "models")
    for backend in backends:
        state = Text("answers", "green") if backend["healthy"] else Text("no answer", "red")
        table.add_row(backend["name"], backend["kind"], backend["url"], state, str(len(backend["models"])))
    return table


def _offer(models: Sequence[Findings]) -> Table:
    table = _table("would offer", "by", "endpoints", "slots", "context", "price in / out")
    for model in models:
        endpoints = " ".join(path.removeprefix("/v1/").removeprefix("/") for path in model["endpoints"])
        price = f"{model['input_per_1m']} / {model['output_per_1m']}"
        context = model["context_window"]
        table.add_row(
            model["model_id"],
            model["backend"],
            endpoints,
            str(model["max_concurrent"]),
            "–" if context is None else f"{context:,}",  # noqa: RUF001 - a dash for "not known"
            "free" if price == "0 / 0" else price,
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
