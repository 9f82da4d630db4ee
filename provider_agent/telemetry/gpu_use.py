"""How much of a GPU programs other than the engines use; knows an engine by the port that it listens on.

NVML tells processes, and the kernel (`/proc`) whose they are. Whatever cannot be told apart is taken for an
engine's, since an agent that mistook its own engine for a stranger would serve nobody:

1. A process in a container: the port that it serves belongs to another process out here.
2. One of the same user as a listening port whose holder we may not see, such as that of Ollama's own user.
3. One that has gone by now.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from provider_agent.telemetry.hardware import Gpus, NvmlGpus

_LISTENS: Final = "0A"
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_SAID: Final = re.compile(r"^(\w+):\t(.*)$", re.MULTILINE)
_MOST_ANCESTORS: Final = 64


class Process(NamedTuple):
    """What the kernel tells of one."""

    parent: int
    group: int
    uid: int
    is_contained: bool


class Listeners(NamedTuple):
    """Who holds the engines' ports.

    Attributes:
        pids, groups: the processes that can be seen to hold one, and their process groups.
        hidden_uids: users of the ports whose holder cannot be seen.
    """

    pids: frozenset[int]
    groups: frozenset[int]
    hidden_uids: frozenset[int]


class GpuUse:
    """See the module.

    Attributes:
        can_tell: whether there is a driver to ask, and a kernel that tells of processes.
    """

    def __init__(self, *, gpus: Gpus | None = None, proc: Path = Path("/proc")) -> None:
        self._gpus = NvmlGpus.load() if gpus is None else gpus
        self._proc = proc
        self._sockets: dict[str, int] = {}
        self._listeners = Listeners(frozenset(), frozenset(), frozenset())

    @property
    def can_tell(self) -> bool:
        return (self._proc / "net" / "tcp").is_file() and self._gpus.shares() is not None

    def by_others(self, ports: Collection[int]) -> int | None:
        """Percent of a GPU that is used by no engine on these ports; None when nobody can tell."""
        shares = self._gpus.shares()
        if shares is None:
            return None
        sockets = self._listening(ports)
        if sockets != self._sockets:
            self._sockets, self._listeners = sockets, self._find_listeners(sockets)
        return sum(share for pid, share in shares.items() if share and not self._is_engines(pid))

    def _is_engines(self, pid: int) -> bool:
        """Whether it is an engine, belongs to one, or may do so."""
        process = self._process(pid)
        if process is None or process.is_contained or process.uid in self._listeners.hidden_uids:
            return True
        return any(
            ancestor in self._listeners.pids or known.group in self._listeners.groups
            for ancestor, known in self._line_of(pid, process)
        )

    def _line_of(self, pid: int, process: Process | None) -> Iterator[tuple[int, Process]]:
        """It, its parent, and so on; not what started the machine."""
        for _ in range(_MOST_ANCESTORS):
            if process is None or pid <= 1:
                return
            yield pid, process
            pid = process.parent
            process = self._process(pid)

    def _process(self, pid: int) -> Process | None:
        folder = self._proc / str(pid)
        try:
            numbers = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            said = dict(_SAID.findall((folder / "status").read_text(errors="replace")))
            uid, spaces = int(said["Uid"].split()[0]), said.get("NSpid", "").split()
            return Process(int(numbers[1]), int(numbers[2]), uid, is_contained=len(spaces) > 1)
        except (OSError, LookupError, ValueError):
            return None

    def _listening(self, ports: Collection[int]) -> dict[str, int]:
        """The sockets that listen on these ports, by their numbers, with their users."""
        found = {}
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):
                for line in (self._proc / "net" / name).read_text().splitlines()[1:]:
                    columns = line.split()
                    if columns[3] == _LISTENS and int(columns[1].rpartition(":")[2], 16) in ports:
                        found[columns[9]] = int(columns[7])
        return found

    def _find_listeners(self, sockets: dict[str, int]) -> Listeners:
        """Look through all processes: done once for each change of who listens."""
        held: dict[int, set[str]] = {}
        if sockets:
            for folder in self._proc.iterdir():
                if folder.name.isdecimal() and (mine := sockets.keys() & _sockets_of(folder)):
                    held[int(folder.name)] = mine
        hidden = sockets.keys() - set[str]().union(*held.values())
        known = [process for pid in held if (process := self._process(pid)) is not None]
        return Listeners(
            frozenset(held),
            frozenset(process.group for process in known),
            frozenset(sockets[socket] for socket in hidden),
        )


def _sockets_of(folder: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # somebody else's process, or one that has just ended
        for file in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if name := _SOCKET.fullmatch(os.readlink(file)):  # noqa: PTH115 - a socket is no path
                    found.add(name[1])
    return found
