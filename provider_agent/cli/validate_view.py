"""How the findings of `validate` look on a terminal; knows nothing but the findings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from provider_agent.cli.output import named

Findings = Mapping[str, Any]

NOTHING = "\N{EN DASH}"
_NAMED_AT_ONCE = 3
_LONGEST_WHOLE_NAME = 26
_LONGEST_WHOLE_NAME_PRICED = 16
"""Of a model: what 80 columns leave; a longer name goes on in the next line."""

_PRICE_WIDTH = 10

_MS_PER_S = 1000

_WARMTH = {True: Text("warm", "green"), False: Text("cold", "cyan"), None: Text(NOTHING)}
"""Whether a model is in memory; None where no engine says."""

_VERDICTS = {
    "answered": Text("answers", "green"),
    "refused": Text("refuses", "yellow"),
    "failed": Text("fails", "red"),
    "untried": Text("not tried", "dim"),
}


def show(findings: Findings, console: Console | None = None) -> None:
    """Print them: where the settings came from, the engines, the offer, how it answers, what is wrong."""
    out = Console(highlight=False) if console is None else console
    out.print(_sources(findings), "", _engines(findings["backends"]), "", sep="\n")
    if findings["models"]:
        out.print(_offer(findings["models"]))
    else:
        out.print("Nothing would be offered now. Start an engine, or look at models.expose and models.hide.")
    if findings.get("trials"):
        out.print("", _trials(findings["trials"]), sep="\n")
    complaints = list(_complaints(findings))
    if complaints:
        out.print("", Group(*complaints), sep="\n")
    if "all_answered" in findings:
        out.print("", _summary(findings), sep="\n")


def _sources(findings: Findings) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    grid.add_row("settings", Text(findings["file"] or "no file"))
    if findings["variables"]:
        grid.add_row("", Text(", ".join(findings["variables"])))
    grid.add_row("coordinator", Text(findings["coordinator"]))
    identity = findings["identity"]
    grid.add_row("identity", Text(f"{identity['key_path']} ({_standing(identity)})"))
    return grid


def _standing(identity: Findings) -> str:
    if not identity["exists"]:
        return "made on first use"
    return f"known at {identity['known_at']}" if identity["known_at"] else "new to this coordinator"


def _engines(backends: Sequence[Findings]) -> Table | Text:
    if not backends:
        return Text("No engine is configured, and none was found on this machine.", style="yellow")
    table = _table("engine", "kind", "address", "state", "models")
    for backend in backends:
        table.add_row(
            Text(backend["name"] or NOTHING),
            backend["kind"],
            Text(backend["url"]),
            Text(backend["state"], "green" if backend["healthy"] else "red"),
            str(len(backend["models"])),
        )
    return table


def _offer(models: Sequence[Findings]) -> Table:
    costs = any(model["input_per_1m"] or model["output_per_1m"] for model in models)
    table = _table("would offer", "by", "endpoints", "slots", "context", "memory")
    if costs:
        table.add_column("price in / out", max_width=_PRICE_WIDTH)
    longest = max(len(model["model_id"]) for model in models)
    table.columns[0].no_wrap = longest <= (_LONGEST_WHOLE_NAME_PRICED if costs else _LONGEST_WHOLE_NAME)
    for model in models:
        price = f"{model['input_per_1m']} / {model['output_per_1m']}"
        context = model["context_window"]
        table.add_row(
            Text(model["model_id"]),
            model["backend"],
            " ".join(_short(endpoint) for endpoint in model["endpoints"]),
            str(model["max_concurrent"]),
            NOTHING if context is None else f"{context:,}",
            _WARMTH[model["warm"]],
            *(["free" if price == "0 / 0" else price] if costs else []),
        )
    return table


def _trials(trials: Sequence[Findings]) -> Table:
    """A line for each engine, below it the models, beside them the endpoints of each."""
    table = _table("tried", "endpoint", "", ">first byte", ">tokens/s")
    engine = model = None
    for trial in trials:
        if trial["backend"] != engine:
            engine, model = trial["backend"], None
            table.add_row(Text(engine, "bold"))
        speed = trial["tokens_per_s"]
        table.add_row(
            "" if trial["model"] == model else Text(f"  {trial['model']}"),
            _short(trial["endpoint"]),
            _VERDICTS[trial["verdict"]],
            _time(trial["first_byte_ms"]),
            NOTHING if speed is None else f"{speed:,.1f}",
        )
        model = trial["model"]
    return table


# --- what is wrong -----------------------------------------------------------------------


def _complaints(findings: Findings) -> Iterator[RenderableType]:
    """Whose trouble, and below it what it is; what many models have in common is said once."""
    for problem in findings.get("problems", ()):
        yield Text(problem["about"], "red" if problem["level"] == "error" else "yellow")
        yield _sentence(problem["text"])
    for (backend, verdict, text, endpoints), models in _alike(findings.get("trials", ())).items():
        about = f"{backend}, {', '.join(map(_short, endpoints))} of {named(models, _NAMED_AT_ONCE)}"
        yield Text(about, _VERDICTS[verdict].style)
        yield _sentence(text)


def _alike(trials: Sequence[Findings]) -> dict[tuple[str, str, str, tuple[str, ...]], list[str]]:
    """The models of an engine to which the same happened at the same endpoints."""
    endpoints: dict[tuple[str, str, str, str], list[str]] = {}
    for trial in trials:
        if trial["problem"]:
            text = f"{trial['problem']}; {trial['remedy']}" if trial["remedy"] else trial["problem"]
            key = trial["backend"], trial["verdict"], text, trial["model"]
            endpoints.setdefault(key, []).append(trial["endpoint"])
    models: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for (backend, verdict, text, model), those in endpoints.items():
        models.setdefault((backend, verdict, text, tuple(those)), []).append(model)
    return models


def _sentence(text: str) -> Padding:
    """With a capital, unless it begins with the name of a file or a key."""
    first = text.partition(" ")[0]
    return Padding(Text(f"{text[:1].upper() if first.isalpha() else text[:1]}{text[1:]}."), (0, 0, 0, 2))


def _summary(findings: Findings) -> Text:
    verdicts = [trial["verdict"] for trial in findings["trials"]]
    counts = ((verdicts.count(verdict), verdict) for verdict in _VERDICTS)
    said = ", ".join(f"{number} {verdict}" for number, verdict in counts if number) or "nothing was tried"
    if not findings["valid"]:
        return Text(f"The settings cannot be used as they are. Of the engines: {said}.", "red")
    if findings["all_answered"] and verdicts and "answered" not in verdicts:
        return Text(f"Nothing failed, and nothing was tried: {said}.", "yellow")
    if findings["all_answered"] and findings["problems"]:
        return Text(f"The models are well: {said}. What else there is to see to is above.", "yellow")
    if findings["all_answered"]:
        return Text(f"All is well: {said}.", "green")
    if away := sum(not backend["healthy"] for backend in findings["backends"]):
        said += f"; {away} of {len(findings['backends'])} engines not there"
    return Text(f"Not all is well: {said}.", "red")


def _short(endpoint: str) -> str:
    return "chat" if endpoint == "/v1/chat/completions" else endpoint.removeprefix("/v1/").removeprefix("/")


def _time(value_ms: float | None) -> str:
    if value_ms is None:
        return NOTHING
    return f"{value_ms:,.0f} ms" if value_ms < 10 * _MS_PER_S else f"{value_ms / _MS_PER_S:,.1f} s"


def _table(*columns: str) -> Table:
    """A name that begins with `>` stands over numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        is_number = column.startswith(">")
        table.add_column(column.removeprefix(">"), overflow="fold", justify="right" if is_number else "left")
    return table
