"""All benchmarks, each a claim with its baseline in the same run: prints tables, writes JSON.

    python benchmarks/bench.py [--only CLAIM] [--load LOAD] [--quick] [--json PATH]

Needs Linux (/proc, epoll), two cores, and a C compiler for the fakes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import agent_relay
import cancel
import coordinator_relay
import idle
import memory
import whole_line
from harness import HERE, Bench, BenchError, Effort, cores, open_files, others_busy
from report import Report, write_json

FOOTER = """
Programs under test run on the first core, fakes and clients on the others. CPU is user and system time of the
programs under test while the load is steady; per core is 1/CPU, what one core could carry, and all ratios are
of it: the median of the ratios of neighbours in time. Higher is better. core, fakes: share of a core that was
in use; * the fakes were the limit, so `per s` is theirs, while CPU and `per core` still hold; ! it could not
begin all streams in 5 s."""
BUSY = 0.1
"""From this share of the machine on, other work spoils latencies and rates; CPU per unit suffers less."""

REALTIME_PRIORITY = 5

Claim = Callable[[Bench, str], Report]
CLAIMS: dict[str, Claim] = {
    "agent-relay": agent_relay.measure,
    "coordinator-relay": coordinator_relay.measure,
    "whole-line": whole_line.measure,
    "memory": memory.measure,
    "idle": idle.measure,
    "cancel": cancel.measure,
}


def main() -> None:
    arguments = parse()
    effort = Effort(arguments.repeat, arguments.seconds)
    if arguments.quick:
        effort = Effort(1, 0.5, 0.15, is_quick=True)
    open_files(16_384)
    began_s, reports = time.monotonic(), {}
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))
    busy = 0.0 if arguments.realtime else others_busy()
    said = "all ours" if arguments.realtime else f"{busy:.0%} of them busy with other work"
    print(f"{len(cores())} cores, {said}", flush=True)
    if busy > BUSY:
        print("THE MACHINE IS BUSY: latencies and rates are not to be trusted; repeat this on a quiet one.")
    for name in [arguments.only] if arguments.only else CLAIMS:
        try:
            reports[name] = run(name, effort, arguments.load)
        except BenchError as error:
            print(f"\n{name}: SKIPPED: {error}", flush=True)
            continue
        print(reports[name].text(), flush=True)
    print(FOOTER)
    write_json(arguments.json, reports, busy)
    print(f"took {time.monotonic() - began_s:.0f} s; wrote {arguments.json}")
    sys.exit(0 if len(reports) == len([arguments.only] if arguments.only else CLAIMS) else 1)


def run(name: str, effort: Effort, load: str) -> Report:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return CLAIMS[name](Bench(effort, folder, stack), load)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", choices=["", *CLAIMS], metavar="CLAIM", help=", ".join(CLAIMS))
    parser.add_argument("--load", default="", help="one load of the claim")
    parser.add_argument("--quick", action="store_true", help="once and briefly: to see that all of it runs")
    parser.add_argument(
        "--realtime", action="store_true", help="go before all other work on this machine; as root"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of steady load per measurement")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "latest.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
