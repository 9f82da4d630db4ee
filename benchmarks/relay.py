"""What the agent's relay costs, as a ratio to a naive relay under the same loads in the same run.

The agent alone is measured: engine and coordinator are fakes in processes of their own, on another core.
CPU is user and system time of the agent's process while the load is steady; a token is one event of the
engine. Runs alternate between the two relays; medians are shown, and the median
of the ratios of neighbours in time, which a busy machine disturbs least.

    python benchmarks/relay.py [--repeat 3] [--seconds 1.0] [--only lockstep-32] [--json PATH]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LOADS: dict[str, dict[str, object]] = {
    "lockstep-32": {"mode": "lockstep", "streams": 32, "amount": 0},
    "lockstep-100": {"mode": "lockstep", "streams": 100, "amount": 0},
    "paced-100x50": {"mode": "paced", "streams": 100, "amount": 50},
    "blast-8": {"mode": "blast", "streams": 8, "amount": 0},
    "jobs-32": {"mode": "once", "streams": 32, "amount": 0},
}
GOAL = ("lockstep-32", 0.35)
SATURATED = 0.9
CONFIG = """\
[operator]
name = "bench"
[coordinator]
url = "ws://127.0.0.1:{coordinator}/v1/agents/connect"
[identity]
key_path = "{folder}/agent.key"
[discovery]
enabled = false
[[backends]]
kind = "openai"
url = "http://127.0.0.1:{engine}"
[limits]
max_concurrent = 128
[telemetry]
status_listen = ""
[log]
level = "warning"
"""


class Program:
    """A child process that says JSON lines; its CPU seconds and memory can be read while it runs."""

    def __init__(self, name: str, command: Sequence[str | Path], cores: set[int]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        os.sched_setaffinity(self._process.pid, cores)

    def read(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended early")
        return json.loads(line)

    def expect(self, event: str) -> dict[str, object]:
        said = self.read()
        assert said["event"] == event, said
        return said

    def write(self, message: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")

    def cpu_s(self) -> float:
        """User and system time of all threads; the scheduler's own count, in nanoseconds."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def stop(self) -> None:
        if self._process.poll() is not None:
            self._log.seek(0)
            print(f"{self.name} had ended:\n{self._log.read().decode()}", file=sys.stderr)
        self._process.kill()
        self._process.communicate()
        self._log.close()


@dataclass
class Contender:
    """One relay under test, with a coordinator of its own."""

    name: str
    agent: Program
    coordinator: Program
    engine: Program

    def measure(self, load: dict[str, object]) -> dict[str, float]:
        self.coordinator.write(load)
        self.coordinator.expect("started")
        programs = (self.agent, self.coordinator, self.engine)
        before = [program.cpu_s() for program in programs]
        self.coordinator.expect("stopped")
        agent_s, *fakes_s = (program.cpu_s() - start for program, start in zip(programs, before, strict=True))
        result = self.coordinator.expect("result")
        assert not result["errors"], result
        elapsed_s, chunks, jobs = (float(str(result[key])) for key in ("elapsed_s", "chunks", "jobs"))
        units = jobs if load["mode"] == "once" else chunks
        return {
            "cpu_us": agent_s / units * 1e6,
            "per_s": units / elapsed_s,
            "agent_busy": agent_s / elapsed_s,
            "fakes_busy": sum(fakes_s) / elapsed_s / fake_cores(),
            "mb_per_s": float(str(result["bytes"])) / elapsed_s / 1e6,
            "chunks_per_frame": chunks / max(1.0, float(str(result["frames"]))),
            "p50_us": float(str(result["p50_us"] or 0)),
            "p99_us": float(str(result["p99_us"] or 0)),
            "resident_mb": self.agent.resident_mb(),
        }


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def fake_cores() -> int:
    return min(2, max(1, len(cores()) - 1))


def core_of(part: int) -> set[int]:
    """The agent gets the first core; the fakes share what is left, up to one each."""
    mine = cores()
    return {mine[min(part, len(mine) - 1)]}


@contextlib.contextmanager
def running(name: str, command: Sequence[str | Path], part: int) -> Iterator[Program]:
    program = Program(name, command, core_of(part))
    try:
        yield program
    finally:
        program.stop()


@contextlib.contextmanager
def contender(name: str, engine: Program, ports: dict[str, object], folder: Path) -> Iterator[Contender]:
    fake = [sys.executable, HERE / "fake_coordinator.py", "--control", str(ports["control"])]
    with running(f"coordinator of {name}", fake, part=2) as coordinator:
        port = coordinator.expect("listening")["port"]
        if name.startswith("naive"):
            url, target = f"ws://127.0.0.1:{port}/v1/agents/connect", f"http://127.0.0.1:{ports['http']}"
            command = [sys.executable, HERE / "naive_relay.py", "--coordinator", url, "--engine", target]
        else:
            config = folder / "agent.toml"
            config.write_text(CONFIG.format(coordinator=port, engine=ports["http"], folder=folder))
            config.chmod(0o600)
            command = [Path(sys.executable).parent / "provider-agent", "run", "--config", config]
        with running(name, command, part=0) as agent:
            coordinator.expect("serving")
            yield Contender(name, agent, coordinator, engine)


Row = dict[str, float]
Results = dict[str, dict[str, Row]]


def medians(rows: list[Row]) -> Row:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def summary(base: list[Row], ours: list[Row]) -> dict[str, Row]:
    pairs = zip(ours, base, strict=True)
    ratio = statistics.median(mine["cpu_us"] / theirs["cpu_us"] for mine, theirs in pairs)
    return {"base": medians(base), "ours": medians(ours) | {"cpu_ratio": ratio}}


def run(arguments: argparse.Namespace, names: tuple[str, str]) -> Results:
    loads = {name: load for name, load in LOADS.items() if arguments.only in ("", name)}
    rows: dict[str, dict[str, list[Row]]] = {load: {n: [] for n in names} for load in loads}
    timing = {"warm_up_s": 0.25, "seconds": arguments.seconds}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(running("engine", [sys.executable, HERE / "fake_engine.py"], part=1))
        ports = engine.read()
        contenders = [stack.enter_context(contender(name, engine, ports, folder)) for name in names]
        for turn in range(arguments.repeat):
            for load, asked in loads.items():
                for each in contenders if turn % 2 == 0 else contenders[::-1]:
                    rows[load][each.name].append(each.measure(asked | timing))
    return {load: summary(*rows[load].values()) for load in loads}


def print_table(results: Results, names: tuple[str, str]) -> None:
    heads = f"{'load':<14}{'relay':<9}{'CPU µs per':>13}{'per s':>11}{'MB/s':>8}{'merged':>8}"
    print(heads + f"{'p50 µs':>8}{'p99 µs':>9}{'RSS MB':>8}{'agent':>7}{'fakes':>7}   ratio of CPU")
    for load, by_name in results.items():
        unit = "job" if LOADS[load]["mode"] == "once" else "token"
        for name, row in zip(names, by_name.values(), strict=True):
            limited = " *" if row["fakes_busy"] > SATURATED else ""
            ratio = f"   {row['cpu_ratio']:.3f}" if "cpu_ratio" in row else ""
            p50, p99 = (f"{row[key]:.0f}" if row[key] else "-" for key in ("p50_us", "p99_us"))  # only paced
            print(
                f"{load:<14}{name:<9}{row['cpu_us']:>7.1f} {unit:<5}{row['per_s']:>11,.0f}"
                f"{row['mb_per_s']:>8.1f}{row['chunks_per_frame']:>8.1f}{p50:>8}{p99:>9}"
                f"{row['resident_mb']:>8.0f}{row['agent_busy']:>7.0%}{row['fakes_busy']:>7.0%}{ratio}{limited}"
            )
    print("agent, fakes: share of their cores in use. *: the fakes were the limit: 'per s' is theirs.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of steady load per measurement")
    parser.add_argument("--only", default="", choices=["", *LOADS], help="one load")
    parser.add_argument("--json", type=Path, help="also write the medians there")
    parser.add_argument("--against", default="agent", choices=["agent", "naive2"], help="naive2: the noise")
    arguments = parser.parse_args()
    names = ("naive", arguments.against)
    began_s = time.monotonic()
    results = run(arguments, names)
    print_table(results, names)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"cores": len(cores()), "loads": results}, indent=1) + "\n")
    load, goal = GOAL
    if load in results:
        ratio = results[load]["ours"]["cpu_ratio"]
        verdict = "reached" if ratio <= goal else "MISSED"
        print(f"goal: at most {goal} of the naive CPU per token at {load}: {ratio:.3f}, {verdict}")
    print(f"took {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
