"""What the agent's relay costs: engine and coordinator are fakes on another core.

Beside it in the same run: a naive agent, which speaks the same protocol, and raw TCP relays in Python and C,
which speak none: they are the ceiling. `direct` is a client at the engine, without anything between.
"""

from collections.abc import Iterator

import parts
from harness import Bench, Contender, Load, Rows, alternate
from relays import gain, relay_report
from report import Goal, Report

LOADS = (
    Load("lockstep-32", "lockstep", 32),
    Load("lockstep-100", "lockstep", 100),
    Load("paced-100x50", "paced", 100, 50),
    Load("blast-8", "blast", 8),
    Load("jobs-32", "once", 32, unit="job"),
    Load("bulk-8", "bulk", 8, unit="MB"),
)
OURS, NAIVE, RAW, RAW_C, DIRECT = "agent", "naive agent", "raw TCP, Python", "raw TCP, C", "direct"
MEANING = {
    "lockstep-32": "32 streams, each token made when the one before it has arrived",
    "lockstep-100": "100 of them",
    "paced-100x50": "100 streams of 50 tokens a second; p50 and p99: from the engine's write to arrival",
    "blast-8": "8 streams of tokens as fast as they are taken, each an HTTP chunk, many to a read",
    "jobs-32": "answers of one token, 32 in flight; p50 and p99: to the first byte",
    "bulk-8": "8 streams in reads of 16 KiB",
}


def measure(bench: Bench, only: str = "") -> Report:
    loads = [load for load in LOADS if only in ("", load.name)]
    rows = alternate(list(contenders(bench)), loads, bench.effort)
    report = relay_report("Agent's relay: engine -> agent -> coordinator", rows, loads, (NAIVE, RAW, RAW_C))
    report.goals = list(goals(rows))
    report.notes = [f"  {name}: {MEANING[name]}" for name in rows]
    if not parts.compiler():
        report.notes.append("  NO C COMPILER: the fakes are Python, and saturate; the C relay is left out.")
    return report


def contenders(bench: Bench) -> Iterator[Contender]:
    engine = parts.Engine(bench)
    for name in (NAIVE, OURS):
        driver, port = parts.fake_coordinator(bench, engine, f"coordinator of {name}")
        start = parts.agent if name == OURS else parts.naive_agent
        tested = start(bench, port, engine.http)
        driver.expect("serving")
        yield Contender(name, driver, [engine.program], [tested])
    if not parts.compiler():
        return
    for in_c in (False, True):
        driver, port = parts.sink(bench, engine, "sink")
        tested = parts.tcp_relay(bench, port, engine.http, in_c=in_c)
        driver.expect("serving")
        yield Contender(
            RAW_C if in_c else RAW, driver, [engine.program], [tested], loads=lambda load: load.unit != "job"
        )
    driver = parts.client(bench, engine.http, engine.control, "client")
    yield Contender(DIRECT, driver, [engine.program], loads=lambda load: load.mode in ("paced", "once"))


def goals(rows: Rows) -> Iterator[Goal]:
    yield Goal(
        "tokens per core, 32 in lockstep, against naive",
        gain(rows, "lockstep-32", OURS, NAIVE),
        10,
        True,
        "times",
    )
    yield Goal(
        "tokens per core, 32 in lockstep, against raw TCP in Python",
        gain(rows, "lockstep-32", OURS, RAW),
        0.65,
        True,
        "times",
    )
    yield Goal("one-chunk jobs per core against naive", gain(rows, "jobs-32", OURS, NAIVE), 60, True, "times")
    yield Goal("MB per core at 16 KiB against naive", gain(rows, "bulk-8", OURS, NAIVE), 10, True, "times")
    added = None
    if {DIRECT, OURS} <= (paced := rows.get("paced-100x50", {})).keys():
        pairs = zip(paced[OURS], paced[DIRECT], strict=True)
        added = sorted(mine["p50_us"] - theirs["p50_us"] for mine, theirs in pairs)[len(paced[OURS]) // 2]
    yield Goal("p50 added to a token at 5,000 a second", added, 15, False, "us")
