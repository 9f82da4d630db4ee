"""How the findings of `bench` look on a terminal; knows nothing but the findings."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from provider_agent.cli.bench_plan import Findings, Left, Speed, Stalled

NOTHING = "\N{EN DASH}"


def show(findings: Findings, console: Console | None = None) -> None:
    """Print them: speed, leaving, the stalled reader, each with what it does and does not tell."""
    out = Console(highlight=False) if console is None else console
    out.print(f"{findings.model} at {findings.url}", "", _speeds(findings), "", sep="\n")
    for speed in findings.speeds:
        if speed.failed:
            out.print(
                f"{speed.failed} of {speed.streams} failed: {speed.failure}\n", style="yellow", markup=False
            )
    if findings.left:
        out.print(_left(findings), "", _about_leaving(findings), "", sep="\n")
    if findings.stalled is not None:
        out.print(*_about_stalled(findings.stalled, findings.speeds[0]), sep="\n", markup=False)


def _speeds(findings: Findings) -> Table:
    table = _table("streams", "first token", "slowest", "tokens/s each", "tokens/s in all")
    if findings.warm_up is not None:
        table.add_row("first answer", _ms(findings.warm_up.first_token_ms), "", "", "")
    for speed in findings.speeds:
        table.add_row(
            f"{speed.streams} at once" if speed.streams > 1 else "one by one",
            _ms(speed.first_token_ms),
            _ms(speed.slowest_first_token_ms),
            _rate(speed.tokens_per_s),
            _rate(speed.total_tokens_per_s),
        )
    return table


def _left(findings: Findings) -> Table:
    table = _table("clients leave", "next first token", "undisturbed", "as before after")
    undisturbed = _ms(findings.speeds[0].first_token_ms)
    for left in findings.left:
        table.add_row(
            f"{left.left}, {left.when}", _ms(left.next_first_token_ms), undisturbed, _recovered(left)
        )
    return table


def _recovered(left: Left) -> Text:
    if left.recovered_ms is None:
        return Text("not in the time that was watched", "red")
    return Text("at once" if left.recovered_ms == 0 else _ms(left.recovered_ms))


def _about_leaving(findings: Findings) -> str:
    """What a first token that is late, or is not, says: from outside, no more can be seen."""
    streams = findings.left[0].left
    return (
        "A late next token means that the endpoint still worked for those who had left. An early one shows "
        f"that they were cancelled only if {streams} are as many as the engine serves at a time (--streams)."
    )


def _about_stalled(stalled: Stalled, alone: Speed) -> list[str]:
    other = stalled.other
    delivered = (
        f"whole, {stalled.tokens} tokens" if stalled.is_whole else f"NOT WHOLE: {stalled.failure or 'cut'}"
    )
    meanwhile = (
        f"first token after {_ms(other.first_token_ms)} (undisturbed {_ms(alone.first_token_ms)}), "
        f"{_rate(other.tokens_per_s)} tokens/s (undisturbed {_rate(alone.tokens_per_s)})"
    )
    return [
        f"A reader stalled for {stalled.stalled_s:.1f} s. Others meanwhile: {meanwhile}.",
        f"The stalled reader's answer, once it read on: {delivered}.",
        "An answer that fits the buffers on the way stalls nobody: compare with long ones.",
    ]


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f} ms"


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if number == 0 else "right")
    return table
