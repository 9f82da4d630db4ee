"""The real program in a process of its own, and the events that it prints."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

END_LIMIT_S = 20.0


@dataclass(frozen=True)
class Ended:
    """A command that is over."""

    code: int
    stdout: str
    stderr: str


def _clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of the program, so that a developer's own do not leak into a test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROVIDER_")}
    return {**kept, "NO_COLOR": "1", **more}


async def command(*arguments: str, environ: Mapping[str, str] | None = None, cwd: Any = None) -> Ended:
    """Run `provider-agent` to its end."""
    async with Program(*arguments, environ=environ, cwd=cwd) as program:
        return await program.end()


class Program:
    """`provider-agent ARGUMENTS`, or those of another module, killed on leaving unless it has ended.

    With `before`, a command that starts it, such as `ip netns exec there`.
    """

    def __init__(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        cwd: Any = None,
        module: str = "provider_agent",
        before: Sequence[str] = (),
    ) -> None:
        self._arguments = arguments
        self._command = (*before, sys.executable, "-m", module, *arguments)
        self._environ = _clean_environment(environ or {})
        self._cwd = cwd
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environ,
            cwd=self._cwd,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        said = await self.process.communicate()
        if error is not None:
            sys.stdout.write(f"{' '.join(self._arguments)} said:\n{said[1].decode()}\n")

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of this name that it prints (with `--json`)."""
        assert self.process.stdout is not None
        async with asyncio.timeout(END_LIMIT_S):
            while line := await self.process.stdout.readline():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == name:
                    return event
        raise AssertionError(f"it ended without saying {name!r}")

    def stop(self) -> None:
        """SIGTERM: asks it to drain."""
        self.process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self.process.send_signal(signal.SIGINT)

    def hang_up(self) -> None:
        """SIGHUP: asks it to read its settings again."""
        self.process.send_signal(signal.SIGHUP)

    async def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        await self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing more until `thaw`, and cannot tell."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def end(self) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(END_LIMIT_S):
            stdout, stderr = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, stdout.decode(), stderr.decode())
