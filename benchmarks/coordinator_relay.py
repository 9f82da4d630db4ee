"""What the coordinator's relay costs, agent frames in, SSE bytes out; agent and clients are fakes elsewhere.

Beside it in the same run: a naive coordinator, fed by an agent of the same kind.
"""

from collections.abc import Iterator

import parts
from harness import Bench, Contender, Load, alternate
from relays import relay_report
from report import Report

LOADS = (
    Load("lockstep-32", "lockstep", 32),
    Load("lockstep-100", "lockstep", 100),
    Load("paced-100x50", "paced", 100, 50),
    Load("blast-8", "blast", 8),
    Load("jobs-32", "once", 32, unit="job"),
    Load("bulk-8", "bulk", 8, unit="MB"),
)
OURS, NAIVE = "coordinator", "naive coordinator"
NOTE = """\
  The loads are those of the agent's relay; blast-8: each token is a frame, many frames to a read."""


def measure(bench: Bench, only: str = "") -> Report:
    loads = [load for load in LOADS if only in ("", load.name)]
    rows = alternate(list(contenders(bench)), loads, bench.effort)
    report = relay_report("Coordinator's relay: agent -> coordinator -> clients", rows, loads, (NAIVE,))
    report.notes.append(NOTE)
    return report


def contenders(bench: Bench) -> Iterator[Contender]:
    for name in (NAIVE, OURS):
        start = parts.coordinator if name == OURS else parts.naive_coordinator
        tested, port = start(bench)
        agent, control = parts.fake_agent(bench, port)
        driver = parts.client(bench, port, control, f"clients of {name}")
        yield Contender(name, driver, [agent], [tested])
