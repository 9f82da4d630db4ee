"""Who uses the GPU: engines are known by their ports, and strangers are what is left."""

import asyncio
import os
from pathlib import Path

import pytest

from provider_agent.telemetry.gpu_use import GpuUse
from provider_agent.telemetry.hardware import Memory, NoGpus

ENGINE, GAME = 100, 200


class BusyGpus:
    """Tells these shares of processes, until told otherwise."""

    def __init__(self) -> None:
        self.now: dict[int, int] | None = {ENGINE: 90, GAME: 50}

    def memories(self) -> list[Memory]:
        return []

    def shares(self) -> dict[int, int] | None:
        return self.now


class FakeProc:
    """The kernel's folder of processes, as far as it is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net").mkdir()
        self.listen()

    def listen(self, *sockets: tuple[int, str, int]) -> None:
        """Port, number and user of each; beside them a socket in use, which is no listener."""
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
        row = "   0: 0100007F:{:04X} 00000000:0000 {} 00000000:00000000 00:00000000 00000000  {}  0 {} 1 0"
        rows = [row.format(port, "0A", uid, inode) for port, inode, uid in sockets]
        rows.append(row.format(11434, "01", 1000, "777"))
        (self.root / "net" / "tcp").write_text("\n".join([head, *rows, ""]))

    def start(
        self, pid: int, *sockets: str, parent: int = 1, group: int = 0, uid: int = 1000, spaces: str = ""
    ) -> None:
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (a game (2)) S {parent} {group or pid} {pid} 0 -1\n")
        (folder / "status").write_text(f"Name:\ta game\nNSpid:\t{spaces or pid}\nUid:\t{uid}\t{uid}\t0\t0\n")
        (folder / "fd" / "0").symlink_to("/dev/null")
        for number, inode in enumerate(sockets, start=3):
            (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def hide(self, pid: int) -> None:
        """As the kernel does with processes of other users."""
        for file in (self.root / str(pid) / "fd").iterdir():
            file.unlink()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    proc = FakeProc(tmp_path)
    proc.listen((11434, "555", 1000))
    return proc


@pytest.fixture
def gpus() -> BusyGpus:
    return BusyGpus()


@pytest.fixture
def use(proc: FakeProc, gpus: BusyGpus) -> GpuUse:
    return GpuUse(gpus=gpus, proc=proc.root)


def test_what_listens_on_the_engines_port_is_the_engine(proc: FakeProc, use: GpuUse) -> None:
    """And a game is not."""
    proc.start(ENGINE, "9", "555")
    proc.start(GAME, "777")

    assert use.can_tell
    assert use.by_others([11434]) == 50
    assert use.by_others([8080]) == 140


def test_what_an_engine_has_started_is_the_engines(proc: FakeProc, use: GpuUse) -> None:
    """Ollama and llama.cpp's router compute in children; LM Studio in a sibling of the one that listens."""
    proc.start(50, "555", group=50)
    proc.start(60, parent=50, group=60)
    proc.start(ENGINE, parent=60)
    proc.start(GAME, parent=1, group=50)

    assert use.by_others([11434]) == 0


def test_a_port_whose_holder_is_hidden_stands_for_its_user(proc: FakeProc, use: GpuUse) -> None:
    """Ollama runs as a user of its own, and an agent may not look into its processes."""
    proc.listen((11434, "555", 998))
    proc.start(50, "555", uid=998)
    proc.hide(50)
    proc.start(ENGINE, parent=50, uid=998)
    proc.start(GAME, uid=1000)

    assert use.by_others([11434]) == 50


def test_what_runs_in_a_container_may_be_an_engine(proc: FakeProc, use: GpuUse) -> None:
    """Its port is held out here by another process, that of the container's network."""
    proc.start(50, "555")
    proc.start(ENGINE, spaces="100 7")
    proc.start(GAME)

    assert use.by_others([11434]) == 50


def test_what_has_gone_or_is_idle_is_nobodys(gpus: BusyGpus, proc: FakeProc, use: GpuUse) -> None:
    """A sample may outlive its process."""
    proc.start(GAME)
    gpus.now = {999: 100, GAME: 0}

    assert use.by_others([11434]) == 0


def test_an_engine_that_is_started_anew_is_known_again(proc: FakeProc, use: GpuUse) -> None:
    """By its new socket."""
    proc.start(50, "555")
    assert use.by_others([11434]) == 0

    proc.listen((11434, "556", 1000))
    proc.start(ENGINE, "556")
    proc.start(GAME)
    assert use.by_others([11434]) == 50


def test_without_nvml_or_without_the_kernels_folder_nobody_can_tell(tmp_path: Path, gpus: BusyGpus) -> None:
    """AMD, Windows, macOS: that is said, and never guessed."""
    assert not GpuUse(gpus=NoGpus()).can_tell
    assert GpuUse(gpus=NoGpus()).by_others([11434]) is None
    assert not GpuUse(gpus=gpus, proc=tmp_path / "none").can_tell


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="reads the kernel of Linux")
async def test_the_kernel_of_this_machine_can_be_asked(gpus: BusyGpus) -> None:
    """This process listens, and so does the one that runs the test: the same."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        gpus.now = {os.getpid(): 70}
        assert GpuUse(gpus=gpus).by_others([port]) == 0
