"""What the whole line adds, client -> coordinator -> agent -> engine, to the client at the engine itself.

Beside it in the same run: the same line of a naive coordinator and a naive agent. Both programs under
test share the first core: `per core` is what the dearer of the two could carry on a core of its own.
"""

import statistics
from collections.abc import Iterator

import parts
from harness import Bench, Contender, Load, Row, Rows, alternate, medians
from relays import mark
from report import Goal, Report, number

LOADS = (
    Load("first-byte", "once", 1, unit="job"),
    Load("tokens-32x100", "paced", 32, 100),
    Load("jobs-32", "once", 32, unit="job"),
    Load("jobs-256", "once", 256, unit="job"),
)
OURS, NAIVE, DIRECT = "our line", "naive line", "direct"
COLUMNS = (
    "load",
    "line",
    "per s",
    "p50 us",
    "p99 us",
    "coordinator us",
    "agent us",
    "per core/s",
    "core",
    "fakes",
    "",
)
NOTES = [
    "  first-byte: one-token answers one after the other; p50 and p99: from the request to its first byte",
    "  tokens-32x100: 32 streams of 100 tokens a second; p50 and p99: from the engine's write to arrival",
    "  jobs: one-token answers, so many in flight. coordinator us, agent us: CPU per token or answer.",
]


def measure(bench: Bench, only: str = "") -> Report:
    loads = [load for load in LOADS if only in ("", load.name)]
    rows = alternate(list(contenders(bench)), loads, bench.effort)
    report = Report("The whole line: client -> coordinator -> agent -> engine", COLUMNS, notes=NOTES)
    report.rows = [
        line(load, name, medians(each)) for load in loads for name, each in rows[load.name].items()
    ]
    report.goals = list(goals(rows))
    report.data = {"loads": {k: {n: medians(each) for n, each in v.items()} for k, v in rows.items()}}
    return report


def contenders(bench: Bench) -> Iterator[Contender]:
    engine = parts.Engine(bench)
    yield Contender(DIRECT, parts.client(bench, engine.http, engine.control, "client"), [engine.program])
    yield Contender(NAIVE, *naive_line(bench, engine))
    yield Contender(OURS, *our_line(bench, engine))


def our_line(bench: Bench, engine: parts.Engine) -> parts.Line:
    coordinator, port = parts.coordinator(bench)
    agent = parts.agent(bench, port, engine.http)
    coordinator.expect("capabilities_taken")
    driver = parts.client(bench, port, engine.control, "client")
    return driver, [engine.program], [coordinator, agent]


def naive_line(bench: Bench, engine: parts.Engine) -> parts.Line:
    coordinator, port = parts.naive_coordinator(bench)
    agent = parts.naive_agent(bench, port, engine.http)
    coordinator.expect("joined")
    driver = parts.client(bench, port, engine.control, "client")
    return driver, [engine.program], [coordinator, agent]


def line(load: Load, name: str, row: Row) -> tuple[str, ...]:
    costs = [row[key] for key in row if key.startswith("cpu_us_")]
    return (
        load.name,
        name,
        number(row["per_s"]),
        number(row["p50_us"], 1),
        number(row["p99_us"], 1),
        *([number(cost, 1) for cost in costs] or ["-", "-"]),
        number(1e6 / max(costs)) if costs else "-",
        f"{row['tested_busy']:.0%}" if costs else "-",
        f"{row['fakes_busy']:.0%}",
        mark(row),
    )


def goals(rows: Rows) -> Iterator[Goal]:
    def pairs(load: str) -> list[tuple[Row, Row]]:
        by_name = rows.get(load, {})
        return list(zip(by_name.get(OURS, ()), by_name.get(DIRECT, ()), strict=True))

    def median(values: list[float]) -> float | None:
        return statistics.median(values) if values else None

    added_ms = median([(ours["p50_us"] - direct["p50_us"]) / 1000 for ours, direct in pairs("first-byte")])
    kept = median([ours["per_s"] / direct["per_s"] * 100 for ours, direct in pairs("tokens-32x100")])
    dearer = median(
        [1e6 / max(ours[k] for k in ours if k.startswith("cpu_us_")) for ours, _ in pairs("jobs-32")]
    )
    yield Goal("p50 added to the first byte", added_ms, 1.0, False, "ms")
    yield Goal("one-chunk requests a second, a core for each program", dearer, 3000, True)
    yield Goal("kept of the engine's tokens, 32 streams of 100 a second", kept, 90, True, "%")
