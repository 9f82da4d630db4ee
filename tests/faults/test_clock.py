"""The wall clock jumps, as it does after a suspend or with a first contact to a time server."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tapes import tape
from tests.faults.parts import line

SHIM = Path(__file__).parent.parent / "fakes" / "clock_shim.c"
YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class WallClock:
    """The wall clock of processes that are started with this environment."""

    file: Path
    environ: dict[str, str]

    def shift(self, by_s: int) -> None:
        self.file.write_text(str(by_s))


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("NO C COMPILER: that jumps of the wall clock do not matter is not shown here")
    library, file = tmp_path / "clock_shim.so", tmp_path / "shift"
    subprocess.run((compiler, "-shared", "-fPIC", "-o", library, SHIM, "-ldl"), check=True)
    clock = WallClock(file, {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(file)})
    clock.shift(0)
    return clock


async def test_a_jump_of_the_wall_clock_is_noticed_by_nobody(wall_clock: WallClock, tmp_path: Path) -> None:
    """A year ahead, then two back: streams, the session and its limits run on; field note 67."""
    brief = {"LIMITS__IDLE_TIMEOUT_S": "5", "LIMITS__FIRST_BYTE_TIMEOUT_S": "5"}
    often = {"HEARTBEAT_INTERVAL_MS": "1000"}
    settings: dict[str, Any] = {"agent": brief, "coordinator": often, "environ": wall_clock.environ}
    async with line(tmp_path, apart=True, **settings) as parts:
        gates = [parts.engine.hold("timeless", before=number) for number in (10, 15)]
        async with parts.client("timeless") as client:
            await client.first(10)
            wall_clock.shift(YEAR_S)
            ahead = await parts.ask("ahead")
            gates[0].set()
            await client.first(15)
            wall_clock.shift(-YEAR_S)
            behind = await parts.ask("behind")
            await asyncio.sleep(1.2)  # a heartbeat, and whatever else would be due or overdue
            gates[1].set()
            heard = await client.rest()
        await parts.is_idle()

    assert heard.body == tape("timeless")
    assert (ahead.body, behind.body) == (tape("ahead"), tape("behind"))
    assert len(parts.proxy.connections) == 1


async def test_the_shim_moves_the_wall_clock_of_a_process(wall_clock: WallClock) -> None:
    """Else the test above would show nothing."""
    wall_clock.shift(YEAR_S)
    say = (
        "import time, datetime as d; print(time.time(), d.datetime.now(d.UTC).isoformat(), time.monotonic())"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", say, stdout=PIPE, env={**os.environ, **wall_clock.environ}
    )
    said, _ = await process.communicate()
    wall, date, monotonic = said.decode().split()

    assert float(wall) - time.time() == pytest.approx(YEAR_S, abs=60)
    assert datetime.fromisoformat(date).timestamp() == pytest.approx(float(wall), abs=60)
    assert float(monotonic) == pytest.approx(time.monotonic(), abs=60)
