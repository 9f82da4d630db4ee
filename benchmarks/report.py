"""What a benchmark found: tables for people, JSON for machines, and the goals; knows no process."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Goal:
    """A promise; `value` is what was measured, None where it could not be."""

    name: str
    value: float | None
    bound: float
    is_floor: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        reached = self.value >= self.bound if self.is_floor else self.value <= self.bound
        return "reached" if reached else "MISSED"

    def line(self) -> str:
        said = "-" if self.value is None else f"{self.value:,.2f}"
        wanted = f"{'at least' if self.is_floor else 'at most'} {self.bound:,g} {self.unit}".rstrip()
        return f"  {self.verdict:<13}{self.name}: {said} ({wanted})"


@dataclass
class Report:
    """One claim's findings.

    Attributes:
        rows: cells of the table; the first cell names the row.
        data: the same for machines.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def text(self) -> str:
        table = [tuple(self.columns), *(tuple(row) for row in self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        return "\n".join(["", self.title, "", *lines, "", *self.notes, *(goal.line() for goal in self.goals)])


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def machine() -> dict[str, object]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def write_json(path: Path, reports: dict[str, Report], others_busy: float) -> None:
    """What was found now, beside what was found before of other claims."""
    claims = json.loads(path.read_text())["claims"] if path.exists() else {}
    for name, report in reports.items():
        claims[name] = {
            "machine": machine() | {"others_busy": others_busy},
            "data": report.data,
            "goals": [asdict(goal) | {"verdict": goal.verdict} for goal in report.goals],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"claims": claims}, indent=1) + "\n")
