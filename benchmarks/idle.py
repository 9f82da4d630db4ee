"""What waiting costs: an agent without jobs, and a coordinator that holds thousands of such agents.

The idle agents are one process, each with a key, a handshake, a heartbeat every
15 s and an answer to each ping.
Beside them in the same run: a naive coordinator that holds as many, and neither checks keys nor sends pings.
"""

import sys
import time

import parts
from harness import FAKES, Bench, Program
from report import Goal, Report, number

FLEETS = {"naive coordinator": (1000,), "coordinator": (1000, 5000)}
WATCH_S = 20.0
JOIN_LIMIT_S = 240.0
COLUMNS = ("program", "", "RSS MB", "per agent kB", "CPU share", "joined in s")


def measure(bench: Bench, only: str = "") -> Report:
    report = Report("Idle", COLUMNS)
    watch_s = 3.0 if bench.effort.is_quick else WATCH_S
    report.notes.append(f"  CPU over {watch_s:.0f} s. Each fleet is joined to a coordinator of its own.")
    if only in ("", "agent"):
        agent_alone(bench, report, watch_s)
    fleets = {name: (200,) if bench.effort.is_quick else counts for name, counts in FLEETS.items()}
    for name in FLEETS:
        for count in fleets[name] if only in ("", name) else ():
            fleet(bench, report, name, count, watch_s)
    report.goals = goals(report.data)
    return report


def agent_alone(bench: Bench, report: Report, watch_s: float) -> None:
    engine = parts.Engine(bench)
    driver, port = parts.fake_coordinator(bench, engine, "coordinator of agent")
    agent = parts.agent(bench, port, engine.http)
    driver.expect("serving")
    bench.wait(1.0)
    share = cpu_share(bench, agent, watch_s)
    report.rows.append(("agent", "idle", number(agent.resident_kb() / 1024, 1), "-", f"{share:.2%}", "-"))
    report.data["agent"] = {"rss_kb": agent.resident_kb(), "cpu_share": share}
    agent.stop()


def fleet(bench: Bench, report: Report, name: str, count: int, watch_s: float) -> None:
    coordinator, port = (parts.coordinator if name == "coordinator" else parts.naive_coordinator)(bench)
    bench.wait(0.5)
    empty_kb = coordinator.resident_kb()
    agents = bench.start(
        "idle agents", [sys.executable, parts.FAKES_DIR / "idle_agents.py", str(port), str(count)], FAKES
    )
    began_s = time.monotonic()
    agents.expect("joined", JOIN_LIMIT_S)
    joining_s = time.monotonic() - began_s
    bench.wait(2.0)
    share = cpu_share(bench, coordinator, watch_s)
    each_kb = (coordinator.resident_kb() - empty_kb) / count
    resident_mb = coordinator.resident_kb() / 1024
    report.rows.append(
        (
            name,
            f"{count} idle agents",
            number(resident_mb, 1),
            number(each_kb, 1),
            f"{share:.2%}",
            number(joining_s, 1),
        )
    )
    report.data[f"{name} {count}"] = {
        "rss_mb": resident_mb,
        "per_agent_kb": each_kb,
        "cpu_share": share,
        "joining_s": joining_s,
    }
    agents.stop()
    coordinator.stop()


def cpu_share(bench: Bench, program: Program, seconds: float) -> float:
    before_s = program.cpu_s()
    bench.wait(seconds)
    return (program.cpu_s() - before_s) / seconds


def goals(data: dict[str, object]) -> list[Goal]:
    def fact(name: str, key: str) -> float | None:
        facts = data.get(name)
        return facts[key] if isinstance(facts, dict) else None

    share, resident_kb = fact("agent", "cpu_share"), fact("agent", "rss_kb")
    return [
        Goal("agent, idle: RSS", None if resident_kb is None else resident_kb / 1024, 42, False, "MB"),
        Goal("agent, idle: CPU", None if share is None else share * 100, 0.1, False, "%"),
        Goal(
            "coordinator, per idle agent of 1,000", fact("coordinator 1000", "per_agent_kb"), 60, False, "kB"
        ),
        Goal(
            "coordinator, per idle agent of 5,000", fact("coordinator 5000", "per_agent_kb"), 60, False, "kB"
        ),
    ]
