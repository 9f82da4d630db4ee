"""What open streams and many jobs leave in memory: idle, with open streams, and after 100,000 jobs.

Each program is measured by itself, with a fake on its other side that can be fast: a leak shows the sooner.
Beside them in the same run: the naive programs, idle and with the streams that they can carry.
"""

from collections.abc import Sequence

import parts
from harness import Bench, Load, Program
from report import Goal, Report, number

STREAMS = {
    "agent": (100, 250),
    "naive agent": (100,),
    "coordinator": (100, 1000),
    "naive coordinator": (100, 1000),
}
"""An agent takes 256 jobs at most."""

WARM_JOBS, MANY_JOBS = 20_000, 100_000
IN_FLIGHT = 32
COLUMNS = ("program", "", "RSS MB", "per open stream kB")


def measure(bench: Bench, only: str = "") -> Report:
    report = Report("Memory", COLUMNS)
    report.notes.append(
        f"  Open streams: a token a second each. Growth: job {WARM_JOBS:,} to job {MANY_JOBS:,} of one token"
        + (", or a twentieth of them with --quick." if bench.effort.is_quick else ".")
    )
    for name in [name for name in STREAMS if only in ("", name)]:
        driver, tested = started(bench, name)
        facts = {"idle_kb": settled_kb(bench, tested)}
        report.rows.append((name, "idle", number(facts["idle_kb"] / 1024, 1), "-"))
        for count in STREAMS[name]:
            facts[f"{count}_streams_kb"] = open_streams_kb(driver, tested, count)
            each_kb = (facts[f"{count}_streams_kb"] - facts["idle_kb"]) / count
            cells = (number(facts[f"{count}_streams_kb"] / 1024, 1), number(each_kb, 1))
            report.rows.append((name, f"{count} open streams", *cells))
        if "naive" not in name:
            facts["growth_kb"] = growth_kb(bench, driver, tested)
            report.rows.append((name, "growth over jobs", number(facts["growth_kb"] / 1024, 2), "-"))
        report.data[name] = facts
    report.goals = goals(report.data)
    return report


def started(bench: Bench, name: str) -> tuple[Program, Program]:
    """The driver, and the program under test, which is ready."""
    if name.endswith("agent"):
        engine = parts.Engine(bench)
        driver, port = parts.fake_coordinator(bench, engine, f"coordinator of {name}")
        tested = (parts.agent if name == "agent" else parts.naive_agent)(bench, port, engine.http)
        driver.expect("serving")
        return driver, tested
    tested, port = (parts.coordinator if name == "coordinator" else parts.naive_coordinator)(bench)
    _, control = parts.fake_agent(bench, port)
    return parts.client(bench, port, control, f"clients of {name}"), tested


def settled_kb(bench: Bench, tested: Program) -> float:
    bench.wait(0.3 if bench.effort.is_quick else 1.0)
    return tested.resident_kb()


def open_streams_kb(driver: Program, tested: Program, count: int) -> float:
    """While so many streams are open, each of which has said something."""
    driver.write(Load("open", "paced", count, 1).line(0.5, 1.0))
    driver.expect("started")
    driver.expect("stopped")
    resident = tested.resident_kb()
    driver.expect("result")
    return resident


def growth_kb(bench: Bench, driver: Program, tested: Program) -> float:
    scale = 20 if bench.effort.is_quick else 1
    run_jobs(driver, WARM_JOBS // scale)
    before = tested.resident_kb()
    run_jobs(driver, (MANY_JOBS - WARM_JOBS) // scale)
    return tested.resident_kb() - before


def run_jobs(driver: Program, count: int) -> None:
    done = 0.0
    while done < count:
        driver.write(Load("jobs", "once", IN_FLIGHT).line(0, 0.5))
        done += float(str(driver.expect("result")["jobs"]))


def goals(data: dict[str, object]) -> list[Goal]:
    def fact(name: str, key: str) -> float | None:
        facts = data.get(name)
        return facts[key] if isinstance(facts, dict) else None

    def per_stream_kb(name: str, count: int) -> float | None:
        resident, idle = fact(name, f"{count}_streams_kb"), fact(name, "idle_kb")
        return None if resident is None or idle is None else (resident - idle) / count

    def in_mb(kb: float | None) -> float | None:
        return None if kb is None else kb / 1024

    most: Sequence[int] = STREAMS["agent"]
    return [
        Goal("agent, idle", in_mb(fact("agent", "idle_kb")), 42, False, "MB"),
        Goal("agent, per open stream", per_stream_kb("agent", most[-1]), 6, False, "kB"),
        Goal("agent, growth over 80,000 jobs", in_mb(fact("agent", "growth_kb")), 1, False, "MB"),
        Goal("coordinator, growth over 80,000 jobs", in_mb(fact("coordinator", "growth_kb")), 1, False, "MB"),
    ]
