"""The parts that claims are made of: the programs under test, their baselines, and the fakes around them."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness import FAKES, HERE, TESTED, Bench, BenchError, Program

Line = tuple[Program, Sequence[Program], Sequence[Program]]
"""A driver, the fakes beside it, and the programs under test: what a contender is made of."""

FAKES_DIR = HERE / "fakes"
BUILD_DIR = HERE / ".build"
C_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-function")
OUR_COMMAND = Path(sysconfig.get_path("scripts")) / "provider-agent"
AGENT_CONFIG = """\
[operator]
name = "tested"
[coordinator]
url = "ws://127.0.0.1:{coordinator}/v1/agents/connect"
[identity]
key_path = "{folder}/{name}.key"
[discovery]
enabled = false
[[backends]]
kind = "openai"
url = "http://127.0.0.1:{engine}"
max_concurrent = 256
[limits]
max_concurrent = 256
[telemetry]
status_listen = ""
[log]
level = "warning"
"""


@cache
def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def built(name: str) -> Path:
    """The C program of this name, compiled anew when its sources are newer."""
    found = compiler()
    if found is None:
        raise BenchError("there is no C compiler (cc, gcc or clang), which the fakes are built with")
    source, target = FAKES_DIR / f"{name}.c", BUILD_DIR / name
    newest = max(path.stat().st_mtime for path in [source, *FAKES_DIR.glob("*.h")])
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD_DIR.mkdir(exist_ok=True)
        subprocess.run([found, *C_FLAGS, "-o", str(target), str(source)], check=True)
    return target


# --- fakes ---------------------------------------------------------------------------------


class Engine:
    """A fake engine that runs, with its ports."""

    def __init__(self, bench: Bench) -> None:
        script: list[str | Path] = (
            [built("engine")] if compiler() else [sys.executable, FAKES_DIR / "engine.py"]
        )
        self.program = bench.start("engine", script, FAKES)
        said = self.program.expect("listening")
        self.http, self.control = int(str(said["http"])), int(str(said["control"]))


def fake_coordinator(bench: Bench, engine: Engine, name: str, *options: str) -> tuple[Program, int]:
    """A driver that waits for an agent, and the port where it waits."""
    if compiler():
        command: list[str | Path] = [built("coordinator"), str(engine.control), *options]
    else:
        command = [sys.executable, FAKES_DIR / "coordinator.py", str(engine.control), *options]
    program = bench.start(name, command, FAKES)
    return program, int(str(program.expect("listening")["port"]))


def sink(bench: Bench, engine: Engine, name: str) -> tuple[Program, int]:
    """A driver that waits for a raw relay, and the port where it waits."""
    program = bench.start(name, [built("sink"), str(engine.control)], FAKES)
    return program, int(str(program.expect("listening")["port"]))


def client(bench: Bench, port: int, control: int, name: str) -> Program:
    """A driver that asks an endpoint."""
    program = bench.start(name, [built("client"), str(port), str(control)], FAKES)
    program.expect("serving")
    return program


def fake_agent(bench: Bench, coordinator: int) -> tuple[Program, int]:
    """A fake agent and engine in one that has joined this coordinator, and its control port."""
    command = [sys.executable, FAKES_DIR / "agent.py", str(coordinator), str(built("agent"))]
    program = bench.start("agent", command, FAKES)
    return program, int(str(program.expect("listening")["control"]))


# --- programs under test, and naive ones ---------------------------------------------------


def agent(bench: Bench, coordinator: int, engine: int, name: str = "agent", part: int = TESTED) -> Program:
    """Our agent; it is ready once its coordinator says so."""
    config = bench.folder / f"{name}.toml"
    config.write_text(
        AGENT_CONFIG.format(coordinator=coordinator, engine=engine, folder=bench.folder, name=name)
    )
    config.chmod(0o600)
    return bench.start(name, [OUR_COMMAND, "run", "--config", config, "--json"], part)


def naive_agent(bench: Bench, coordinator: int, engine: int, name: str = "naive agent") -> Program:
    url, target = f"ws://127.0.0.1:{coordinator}/v1/agents/connect", f"http://127.0.0.1:{engine}"
    command = [sys.executable, HERE / "naive_agent.py", "--coordinator", url, "--engine", target]
    return bench.start(name, command, TESTED)


def coordinator(bench: Bench, name: str = "coordinator") -> tuple[Program, int]:
    """Our coordinator in development mode, with nothing kept, and its port."""
    command = [
        OUR_COMMAND,
        "coordinator",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "warning",
        "--json",
    ]
    program = bench.start(name, command, TESTED)
    return program, int(str(program.expect("listening")["port"]))


def naive_coordinator(bench: Bench, name: str = "naive coordinator") -> tuple[Program, int]:
    program = bench.start(name, [sys.executable, HERE / "naive_coordinator.py"], TESTED)
    return program, int(str(program.expect("listening")["port"]))


def tcp_relay(bench: Bench, sink_port: int, engine: int, *, in_c: bool) -> Program:
    """A raw relay: the ceiling of what a relay can do."""
    script: list[str | Path] = [built("tcp_relay")] if in_c else [sys.executable, HERE / "tcp_relay.py"]
    name = "raw TCP, C" if in_c else "raw TCP, Python"
    return bench.start(name, [*script, str(sink_port), str(engine)], TESTED)
