"""Processes on cores of their own, and what they cost while a load is steady; knows no protocol."""

import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SATURATED = 0.9
"""Of the fakes' cores: above it, they and not the program under test set the pace."""

PATIENCE_S = 45.0
"""How long a program may be silent where something is expected of it."""

Row = dict[str, float]


class BenchError(Exception):
    """A benchmark cannot go on; the text is one sentence."""


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def core_of(part: int) -> set[int]:
    """The programs under test get the first cores, the fakes the others; what is missing is shared."""
    mine = cores()
    return {mine[min(part, len(mine) - 1)]}


TESTED, FAKES = 0, 1
"""Parts: two cores are enough, and more would change nothing but the fakes' ease."""


def open_files(at_least: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < at_least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(at_least, hard), hard))


def others_busy(over_s: float = 1.0) -> float:
    """Which share of the machine is busy while none of ours runs."""

    def spent() -> tuple[int, int]:
        ticks = [
            int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]
        ]
        return sum(ticks), ticks[3] + ticks[4]  # idle and waiting for a disk

    total, idle = spent()
    time.sleep(over_s)
    total, idle = (after - before for after, before in zip(spent(), (total, idle), strict=True))
    return 1 - idle / max(total, 1)


class Program:
    """A child process that says JSON lines; its CPU seconds and memory can be read while it runs."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        part: int,
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        self._said = b""
        os.sched_setaffinity(self._process.pid, core_of(part))

    def read(self, patience_s: float = PATIENCE_S) -> dict[str, object]:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            if not select.select([self._process.stdout], [], [], patience_s)[0]:
                raise BenchError(f"{self.name} says nothing any more: {self._last_words()}")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise BenchError(f"{self.name} ended early: {self._last_words()}")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        said: dict[str, object] = json.loads(line)
        return said

    def expect(self, event: str, patience_s: float = PATIENCE_S) -> dict[str, object]:
        """The next event of this name; others are passed over."""
        while (said := self.read(patience_s)).get("event") != event:
            pass
        return said

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def cpu_s(self) -> float:
        """User and system time of all threads; the scheduler's own count, in nanoseconds."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def resident_kb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def stop(self) -> None:
        """End it; only the first call counts."""
        if self._log.closed:
            return
        if self._process.poll() is not None:
            print(f"{self.name} had ended: {self._last_words()}", file=sys.stderr)
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:].strip() or "without a word"


@dataclass(frozen=True)
class Load:
    """What a driver is to do; `unit` is what CPU is counted per: `token` (an event), `job` or `MB`."""

    name: str
    mode: str
    streams: int
    amount: int = 0
    unit: str = "token"

    def line(self, warm_up_s: float, seconds: float) -> str:
        return f"{self.mode} {self.streams} {self.amount} {round(warm_up_s * 1000)} {round(seconds * 1000)}"


@dataclass
class Contender:
    """One way to carry a load, with a driver of its own.

    Attributes:
        tested: the programs whose CPU is counted; none when there is nothing between driver and engine.
    """

    name: str
    driver: Program
    fakes: Sequence[Program]
    tested: Sequence[Program] = ()
    loads: Callable[[Load], bool] = field(default=lambda _: True)

    def measure(self, load: Load, warm_up_s: float, seconds: float) -> Row:
        self.driver.write(load.line(warm_up_s, seconds))
        self.driver.expect("started")
        programs = (*self.tested, self.driver, *self.fakes)
        before = [program.cpu_s() for program in programs]
        self.driver.expect("stopped")
        spent_s = [program.cpu_s() - start for program, start in zip(programs, before, strict=True)]
        result = self.driver.expect("result")
        if result["errors"]:
            raise BenchError(f"{self.name}, {load.name}: {result['errors']} jobs failed")
        return self._row(load, result, spent_s)

    def _row(self, load: Load, result: dict[str, object], spent_s: list[float]) -> Row:
        number = {key: float(str(value)) for key, value in result.items() if key != "event"}
        units = {"job": number["jobs"], "MB": number["bytes"] / 1e6}.get(load.unit, number["bytes"] / 160)
        elapsed_s, tested_s = number["elapsed_s"], spent_s[: len(self.tested)]
        row = {
            "per_s": units / elapsed_s,
            "cpu_us": sum(tested_s) / max(units, 1e-9) * 1e6,
            "tested_busy": sum(tested_s) / elapsed_s,
            "fakes_busy": sum(spent_s[len(self.tested) :]) / elapsed_s,
            "unbegun": number["unbegun"],
            "per_frame": units / max(1.0, number["frames"]),
            "p50_us": number["p50_us"],
            "p99_us": number["p99_us"],
        }
        for program, used_s in zip(self.tested, tested_s, strict=True):
            row[f"cpu_us_{program.name}"] = used_s / max(units, 1e-9) * 1e6
        return row


@dataclass(frozen=True)
class Effort:
    """How long and how often is measured."""

    repeat: int = 3
    seconds: float = 1.0
    warm_up_s: float = 0.25
    is_quick: bool = False


Rows = dict[str, dict[str, list[Row]]]
"""By load, by contender."""


def alternate(contenders: Sequence[Contender], loads: Sequence[Load], effort: Effort) -> Rows:
    """Every load with every contender, in turn and back again, so that a busy machine disturbs all alike."""
    rows: Rows = {load.name: {c.name: [] for c in contenders if c.loads(load)} for load in loads}
    for turn in range(effort.repeat):
        for load in loads:
            for contender in contenders if turn % 2 == 0 else contenders[::-1]:
                if contender.loads(load):
                    row = contender.measure(load, effort.warm_up_s, effort.seconds)
                    rows[load.name][contender.name].append(row)
    return rows


def medians(rows: Sequence[Row]) -> Row:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def ratio(ours: Sequence[Row], theirs: Sequence[Row], key: str) -> float:
    """The median of the ratios of neighbours in time."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(mine[key] / max(other[key], 1e-9) for mine, other in pairs)


@dataclass
class Bench:
    """What every claim is given.

    Attributes:
        folder: for files of the programs under test.
    """

    effort: Effort
    folder: Path
    stack: ExitStack

    def start(self, name: str, command: Sequence[str | Path], part: int) -> Program:
        """A program that is stopped when the claim has been measured."""
        program = Program(name, command, part)
        self.stack.callback(program.stop)
        return program

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
