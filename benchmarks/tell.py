"""Writes what `bench.py` found into docs/performance.md; measures nothing.

python benchmarks/tell.py [RESULTS]
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import HERE

PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
UNKNOWN = "_not measured_"
LOADS = {
    "lockstep-32": "32 streams in lockstep: each token is made when the one before has arrived",
    "lockstep-100": "100 of them",
    "blast-8": "8 streams of tokens as fast as they are taken",
    "bulk-8": "8 streams in pieces of 16 KiB, by MB",
    "jobs-32": "one-token answers, 32 in flight",
}
LEAVING = {
    "streaming": "in the middle of a stream",
    "not streamed": "while waiting for an unstreamed answer",
    "during prefill": "before the first token",
    "stalled, then gone": "after it has stalled in the middle of a flood",
}


class Found:
    """The results, by path; what is missing is None."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self._claims = claims

    def get(self, claim: str, *path: str) -> Any:
        value: Any = self._claims.get(claim, {})
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def text(self, claim: str, *path: str, scale: float = 1.0, digits: int = 1) -> str:
        value = self.get(claim, *path)
        return UNKNOWN if value is None else f"{value * scale:,.{digits}f}"

    def added(
        self, path: tuple[str, str], key: str, name: str, *, scale: float = 1.0, digits: int = 0
    ) -> str:
        """To what the client at the engine itself sees; `path` is claim and load."""
        claim, load = path
        mine = self.get(claim, "data", "loads", load, name, key)
        direct = self.get(claim, "data", "loads", load, "direct", key)
        return UNKNOWN if mine is None or direct is None else f"{(mine - direct) * scale:,.{digits}f}"


def table(*rows: tuple[str, ...]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:], ""])


def machine(found: Found) -> str:
    facts = found.get("agent-relay", "machine") or {}
    busy = facts.get("others_busy")
    noise = (
        "" if busy is None or busy < 0.1 else f"; other work kept {busy:.0%} of it busy, which blurs times"
    )
    name = facts.get("cpu", "an unknown processor")
    return f"Measured on {name}, {facts.get('cores', '?')} cores, Python {facts.get('python', '?')}{noise}.\n"


def agent_relay(found: Found) -> str:
    bases = ("naive agent", "raw TCP, Python", "raw TCP, C")
    rows = [("tokens, answers or MB a core can carry: times those of", *bases)]
    for load, meaning in LOADS.items():
        known = found.get("agent-relay", "data", "times", load, "agent") or {}
        rows.append((meaning, *(f"{known[base]:.2f}" if known.get(base) else "" for base in bases)))
    added = [
        found.added(("agent-relay", "paced-100x50"), "p50_us", name)
        for name in ("agent", "raw TCP, Python", "raw TCP, C")
    ]
    return (
        "## The agent's relay\n\n" + table(*rows) + "\n"
        f"At 100 streams of 50 tokens a second, the agent adds {added[0]} µs to the median token's way;\n"
        f"the raw relays add {added[1]} µs (Python) and {added[2]} µs (C).\n"
    )


def coordinator_relay(found: Found) -> str:
    base = "naive coordinator"
    rows = [("tokens, answers or MB a core can carry: times those of", base)]
    for load, meaning in LOADS.items():
        rows.append(
            (meaning, found.text("coordinator-relay", "data", "times", load, "coordinator", base, digits=2))
        )
    return "## The coordinator's relay\n\n" + table(*rows)


def whole_line(found: Found) -> str:
    def per_core(load: str) -> str:
        row = found.get("whole-line", "data", "loads", load, "our line") or {}
        costs = [value for key, value in row.items() if key.startswith("cpu_us_")]
        return f"{1e6 / max(costs):,.0f}" if costs else UNKNOWN

    rate = ("whole-line", "data", "loads", "tokens-32x100")
    ours, direct = (found.get(*rate, name, "per_s") for name in ("our line", "direct"))
    kept = UNKNOWN if ours is None or direct is None else f"{ours / direct:.1%}"
    added = [
        found.added(("whole-line", "first-byte"), key, "our line", scale=1e-3, digits=2)
        for key in ("p50_us", "p99_us")
    ]
    return "## The whole line\n\n" + table(
        ("client, coordinator, agent and engine, against the client at the engine itself", ""),
        ("added to the first byte, median and 99th percentile", f"{added[0]} ms, {added[1]} ms"),
        ("kept of the engine's tokens, 32 streams of 100 a second", kept),
        (
            "one-token answers a second at 1, 32, 256 in flight, a core for each program",
            ", ".join(map(per_core, ("first-byte", "jobs-32", "jobs-256"))),
        ),
    )


def memory(found: Found) -> str:
    def per_stream(program: str, count: int) -> str:
        facts = found.get("memory", "data", program) or {}
        if f"{count}_streams_kb" not in facts:
            return UNKNOWN
        return f"{(facts[f'{count}_streams_kb'] - facts['idle_kb']) / count:.1f} kB"

    def in_mb(program: str, fact: str) -> str:
        return found.text("memory", "data", program, fact, scale=1 / 1024) + " MB"

    per_agent = [found.text("idle", "data", f"coordinator {count}", "per_agent_kb") for count in (1000, 5000)]
    shares = [
        found.text("idle", "data", f"coordinator {count}", "cpu_share", scale=100) for count in (1000, 5000)
    ]
    idle = found.text("idle", "data", "agent", "cpu_share", scale=100, digits=2)
    return "## Memory and idling\n\n" + table(
        ("", "agent", "coordinator"),
        ("idle", in_mb("agent", "idle_kb"), in_mb("coordinator", "idle_kb")),
        ("per open stream (of 250; of 1,000)", per_stream("agent", 250), per_stream("coordinator", 1000)),
        (
            "growth from the 20,000th to the 100,000th answer",
            in_mb("agent", "growth_kb"),
            in_mb("coordinator", "growth_kb"),
        ),
        ("CPU while idle, of a core", f"{idle} %", ""),
        ("per idle agent, of 1,000 and of 5,000", "", f"{per_agent[0]} kB, {per_agent[1]} kB"),
        ("CPU with 1,000 and 5,000 idle agents, of a core", "", f"{shares[0]} %, {shares[1]} %"),
    )


def cancel(found: Found) -> str:
    rows = [("the client leaves", "through the whole line", "at the engine itself")]
    for load, meaning in LEAVING.items():
        times = [
            ", ".join(
                found.text("cancel", "data", "loads", load, name, key, scale=1e-3, digits=2) + " ms"
                for key in ("p50_us", "p99_us")
            )
            for name in ("our line", "direct")
        ]
        rows.append((meaning, *times))
    return (
        "## Cancelling\n\nFrom a client's leaving until the engine's connection is closed, median and 99th "
        "percentile:\n\n" + table(*rows)
    )


SECTIONS: tuple[Callable[[Found], str], ...] = (
    machine,
    agent_relay,
    coordinator_relay,
    whole_line,
    memory,
    cancel,
)


def told(page: str, found: Found) -> Iterator[str]:
    """The page, with the figures in their place."""
    before, _, rest = page.partition(BEGIN)
    yield before + BEGIN
    yield "\n" + "\n".join(section(found) for section in SECTIONS) + "\n"
    yield END + rest.partition(END)[2]


if __name__ == "__main__":
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results" / "latest.json"
    claims = json.loads(results.read_text())["claims"]
    PAGE.write_text("".join(told(PAGE.read_text(encoding="utf-8"), Found(claims))), encoding="utf-8")
