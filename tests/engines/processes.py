"""Real processes for the tests of engines: llama.cpp's server and our own programs, all on loopback."""

import itertools
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / ".engines"
START_LIMIT_S = 30.0
POLL_S = 0.005


def eventually(claim: Callable[[], bool], within_s: float, what: str) -> float:
    """Ask until it is so; gives how long that took, in seconds. Each question rests for a moment."""
    began_s = time.monotonic()
    while not claim():
        passed_s = time.monotonic() - began_s
        if passed_s > within_s:
            raise AssertionError(f"{what}: not so after {passed_s * 1000:.0f} ms")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class _Process:
    """A child with its output in a file, which is shown when a test fails inside."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._child: subprocess.Popen[str] | None = None

    @property
    def child(self) -> subprocess.Popen[str]:
        assert self._child is not None, f"{self.name} is not running"
        return self._child

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.child.terminate()
        return self._wait()

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.child.kill()
        self._wait()

    def _wait(self) -> int:
        try:
            return self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class LlamaServer(_Process):
    """llama.cpp's server with one of the models that `prepare.sh` made; may be started again on its port."""

    def __init__(self, folder: Path, alias: str, *flags: str, model: str = "tiny", name: str = "") -> None:
        super().__init__(f"llama-{name or alias}", folder)
        self.alias = alias
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = flags
        self._model = ENGINES / "models" / f"{model}.gguf"

    def start(self, *more: str) -> None:
        command: list[str | Path] = [ENGINES / "llama-server", "--model", self._model, "--alias", self.alias]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--parallel", "4", "--ctx-size", "8192"]
        command += ["--threads", "1", "--jinja", "--slots", "--no-webui", *self._flags, *more]
        with self.log.open("a") as log:
            self._child = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        eventually(self._is_healthy, START_LIMIT_S, f"{self.name} is up (see {self.log})")

    def _is_healthy(self) -> bool:
        assert self.child.poll() is None, f"{self.name} ended: {self.log.read_text()}"
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def busy_slots(self) -> int:
        slots = httpx.get(f"{self.url}/slots", timeout=5).json()
        return sum(bool(slot["is_processing"]) for slot in slots)

    def cancels(self) -> int:
        """How many requests it has given up because their client left; asking this does not disturb it."""
        return self.log.read_text().count("cancel task")


class OllamaStandin(_Process):
    """Ollama's wire format in front of llama.cpp servers: models by name, each with the URL of its server."""

    def __init__(self, folder: Path, name: str, models: Mapping[str, str]) -> None:
        super().__init__(name, folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._models = models

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.engines.ollama_standin", str(self.port)]
        with self.log.open("a") as log:
            self._child = subprocess.Popen(
                [*command, *(f"{name}={url}" for name, url in self._models.items())],
                stdout=log,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        eventually(self._is_there, START_LIMIT_S, f"{self.name} is up (see {self.log})")

    def _is_there(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/version", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


class Program(_Process):
    """`provider-agent ARGUMENTS --json`; its events are read as they come."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str | Path], **environ: str) -> None:
        super().__init__(name, folder)
        self._arguments = arguments
        self._environ = environ
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PROVIDER_")}
        command = [sys.executable, "-m", "provider_agent", *self._arguments, "--json"]
        with self.log.open("a") as log:
            self._child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=kept | self._environ
            )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        with stdout:
            for line in stdout:
                self._events.put(json.loads(line))
        self._events.put(None)

    def _wait(self) -> int:
        code = super()._wait()
        if self._reader is not None:
            self._reader.join()
        return code

    def event(
        self,
        name: str,
        such: Callable[[dict[str, Any]], bool] = lambda _event: True,
        within_s: float = START_LIMIT_S,
    ) -> dict[str, Any]:
        """The next event of that name that is such as asked for; those before it are passed over."""
        ends_s = time.monotonic() + within_s
        for _ in itertools.count():
            try:
                event = self._events.get(timeout=max(0.0, ends_s - time.monotonic()))
            except queue.Empty:
                event = None
            if event is None:
                raise AssertionError(f"{self.name} did not say {name!r}: {self.log.read_text()}")
            if event["event"] == name and such(event):
                return event
        raise AssertionError("unreachable")
