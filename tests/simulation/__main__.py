"""Play many seeds, and tell the story of the first that breaks a promise: `make chaos SEEDS=10000`."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from provider_agent.telemetry import logs
from tests.simulation.run import Result, simulate, usual_configs


def play(first: int, count: int, workers: int | None = None) -> Iterator[Result]:
    """The results of so many seeds, in their order; each core takes its share."""
    configs = usual_configs()
    seeds = range(first, first + count)
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=_be_quiet) as pool:
        yield from pool.map(partial(simulate, configs=configs), seeds, chunksize=max(1, min(50, count // 8)))


def _be_quiet() -> None:
    logs.configure("critical", "json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    for result in play(arguments.first, arguments.seeds):
        counts.update(result.counts)
        if result.broken:
            print(result.broken)
            print(f"again: make chaos FIRST={result.seed} SEEDS=1")
            return 1
    for what, count in sorted(counts.items()):
        print(f"{count:>9,}  {what}")
    print(f"{arguments.seeds} seeds, every promise kept, {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
