"""How the findings about a relay are told: one table over loads and contenders; knows no program."""

from collections.abc import Iterator, Sequence

from harness import SATURATED, Load, Row, Rows, medians, ratio
from report import Report, number

_NO_TIMES = "-"
TIMED = ("paced", "once", "lockstep")
"""Modes whose latencies mean something."""


def relay_report(title: str, rows: Rows, loads: Sequence[Load], bases: Sequence[str]) -> Report:
    """A table with how many times the rate per core of each base the others reach."""
    heads = [f"x {base}" for base in bases]
    columns = [
        "load",
        "relay",
        "CPU us",
        "per core/s",
        "per s",
        *heads,
        "p50 us",
        "p99 us",
        "core",
        "fakes",
        "",
    ]
    data: dict[str, object] = {
        load: {name: medians(each) for name, each in by_name.items()} for load, by_name in rows.items()
    }
    times = {
        load: {name: {base: gain(rows, load, name, base) for base in bases} for name in by_name}
        for load, by_name in rows.items()
    }
    return Report(title, columns, list(_table(rows, loads, bases)), data={"loads": data, "times": times})


def gain(rows: Rows, load: str, ours: str, base: str) -> float | None:
    """How many times the base's rate per core; CPU per unit is its inverse."""
    by_name = rows.get(load, {})
    if not {ours, base} <= by_name.keys():
        return None
    return ratio(by_name[base], by_name[ours], "cpu_us")


def mark(row: Row) -> str:
    """`*`: the fakes were the limit; `!`: it could not so much as begin all streams in 5 s."""
    is_limited = row["fakes_busy"] > SATURATED and row["cpu_us"]
    return ("*" if is_limited else "") + ("!" if row["unbegun"] else "")


def _table(rows: Rows, loads: Sequence[Load], bases: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for load in loads:
        for name, each in rows[load.name].items():
            times = [_times(rows, load.name, name, base) for base in bases]
            yield (load.name, name, *_cells(load, medians(each), times))


def _times(rows: Rows, load: str, name: str, base: str) -> str:
    found = None if name == base else gain(rows, load, name, base)
    return f"{found:.2f}" if found else _NO_TIMES


def _cells(load: Load, row: Row, times: Sequence[str]) -> tuple[str, ...]:
    cost, is_timed = row["cpu_us"], load.mode in TIMED
    return (
        f"{cost:.1f}/{load.unit}" if cost else "-",
        number(1e6 / cost) if cost else "-",
        number(row["per_s"]),
        *(times if cost else [_NO_TIMES] * len(times)),
        number(row["p50_us"], 1) if is_timed else "-",
        number(row["p99_us"], 1) if is_timed else "-",
        f"{row['tested_busy']:.0%}" if cost else "-",
        f"{row['fakes_busy']:.0%}",
        mark(row),
    )
