"""How soon an engine is told that nobody waits any more: from a client's leaving to its connection's end.

Beside it in the same run: the client at the engine itself. (The naive programs never tell the engine.)
"""

from collections.abc import Iterator

import parts
from harness import Bench, BenchError, Contender, Load, Row
from report import Goal, Report, number
from whole_line import our_line

TIMES = 50
STALLS = 8
LOADS = (
    Load("streaming", "leave-stream", TIMES, 100),
    Load("not streamed", "leave-whole", TIMES),
    Load("during prefill", "leave-prefill", TIMES),
    Load("stalled, then gone", "leave-stall", STALLS),
)
OURS, DIRECT = "our line", "direct"
COLUMNS = ("client leaves", "line", "p50 ms", "p99 ms", "times")
GOAL_MS = 50.0


def measure(bench: Bench, only: str = "") -> Report:
    report = Report("Cancel: from the client's leaving to the end of the engine's connection", COLUMNS)
    found: dict[str, dict[str, Row]] = {}
    lines = list(contenders(bench))
    for load in [load for load in LOADS if only in ("", load.name)]:
        for line in lines:
            row = leave(line, load)
            found.setdefault(load.name, {})[line.name] = row
            times = (number(row["p50_us"] / 1000, 2), number(row["p99_us"] / 1000, 2))
            report.rows.append((load.name, line.name, *times, number(row["latencies"])))
    report.notes.append(
        "  The client closes its connection; a stalled one has not read for 0.5 s of a flood."
    )
    report.data = {"loads": found}
    report.goals = [
        Goal(f"p99, {name}", rows[OURS]["p99_us"] / 1000, GOAL_MS, False, "ms")
        for name, rows in found.items()
    ]
    return report


def contenders(bench: Bench) -> Iterator[Contender]:
    engine = parts.Engine(bench)
    yield Contender(DIRECT, parts.client(bench, engine.http, engine.control, "client"), [engine.program])
    yield Contender(OURS, *our_line(bench, engine))


def leave(line: Contender, load: Load) -> Row:
    line.driver.write(load.line(0, 0))
    result = line.driver.expect("result")
    row = {key: float(str(value)) for key, value in result.items() if key != "event"}
    if row["errors"]:
        raise BenchError(f"{line.name}, {load.name}: {row['errors']:.0f} jobs failed")
    return row
