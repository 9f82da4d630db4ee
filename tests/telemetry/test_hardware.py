"""Coarse figures from machines of all kinds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from provider_agent.protocol.vitals import (
    CpuPressure,
    GpuPressure,
    HardwarePressure,
    RamPressure,
    VramPressure,
)
from provider_agent.telemetry.hardware import (
    GIB,
    Hardware,
    Memory,
    NoGpus,
    NvmlGpus,
    memory_of,
    ram_bucket,
    vram_tier,
)

MEMINFO = """\
MemTotal:       32795652 kB
MemFree:            1234 kB
MemAvailable:   24596739 kB
HugePages_Total:       0
"""


class FakeGpus:
    """Two cards, one of them half full."""

    def memories(self) -> list[Memory]:
        return [(24 * GIB, 12 * GIB), (24 * GIB, 0)]

    def shares(self) -> dict[int, int] | None:
        return {}


class FakeNvml:
    """The library with a driver and one card, and no more of it than we may use."""

    class NVMLError(Exception):
        """What the library raises."""

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's name
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - the library's name
        return index

    def nvmlDeviceGetMemoryInfo(self, _handle: int) -> SimpleNamespace:  # noqa: N802 - the library's name
        return SimpleNamespace(total=8188 * 1024**2, used=4094 * 1024**2, free=0)


class NvmlThatTellsOfProcesses(FakeNvml):
    """Two cards, whose samples are kept for a while; the second may not tell of processes.

    Attributes:
        samples: by card: what is kept; None where it does not tell.
    """

    NVML_ERROR_NOT_FOUND = 6

    class NVMLError(Exception):
        """With the library's number."""

        def __init__(self, value: int) -> None:
            super().__init__(value)
            self.value = value

    def __init__(self, *samples: list[tuple[int, int, int]] | None) -> None:
        self.samples = samples

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's name
        return len(self.samples)

    def nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[SimpleNamespace]:  # noqa: N802 - the library's name
        samples = self.samples[handle]
        if samples is None:
            raise self.NVMLError(3)
        if not samples:
            raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)
        return [SimpleNamespace(timeStamp=at, pid=pid, smUtil=share) for at, pid, share in samples]


class NvmlInAnUpdate(NvmlThatTellsOfProcesses):
    """A driver that has just been replaced under a running program."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's name
        raise self.NVMLError(18)


class NvmlWithoutDriver(FakeNvml):
    """The library on a machine without the driver."""

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        raise self.NVMLError("LibraryNotFound")


class NvmlThatLostItsGpu(FakeNvml):
    """A card that fell off the bus after the start."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - the library's name
        raise self.NVMLError("GPU is lost", index)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    file = tmp_path / "meminfo"
    file.write_text(MEMINFO)
    return file


def machine(meminfo: Path, gpus: Any = None) -> Hardware:
    return Hardware(gpus=gpus or NoGpus(), meminfo=meminfo, load=lambda: (3.0, 9.0, 9.0), core_count=8)


def test_a_machine_is_told_in_coarse_steps(meminfo: Path) -> None:
    """Ratios, buckets and tiers."""
    assert machine(meminfo, FakeGpus()).pressure() == HardwarePressure(
        cpu=CpuPressure(core_count=8, load_1m_ratio=0.38),
        ram=RamPressure(used_ratio=0.25, total_bucket="<=32GiB"),
        gpu=GpuPressure(available=True, count=2, vram=VramPressure(total_tier="32plus", used_ratio=0.25)),
    )


def test_no_name_size_or_path_is_in_it(meminfo: Path) -> None:
    """Every text is one of the few words that all machines share (field note 45)."""
    told = msgspec.to_builtins(machine(meminfo, FakeGpus()).pressure())

    texts = [value for part in told.values() for value in part.values() if isinstance(value, str)]
    assert texts == ["<=32GiB"]
    assert told["gpu"] == {
        "available": True,
        "count": 2,
        "vram": {"total_tier": "32plus", "used_ratio": 0.25},
    }


def test_a_machine_without_a_gpu_says_so(meminfo: Path) -> None:
    """And claims no share of memory that it does not have."""
    pressure = machine(meminfo).pressure()

    assert pressure is not None
    assert pressure.gpu == GpuPressure(available=False, count=0, vram=VramPressure(total_tier="none"))


def test_what_cannot_be_read_is_not_guessed(meminfo: Path, tmp_path: Path) -> None:
    """Another platform: no such file, no load average, other contents."""
    assert machine(tmp_path / "none").pressure() is None
    assert Hardware(gpus=NoGpus(), meminfo=meminfo, load=None).pressure() is None
    meminfo.write_text("MemTotal: 5 kB\n")
    assert machine(meminfo).pressure() is None


def test_this_machine_can_be_asked() -> None:
    """Whatever it is."""
    pressure = Hardware().pressure()

    assert pressure is None or pressure.cpu.core_count >= 1


def test_nvml_tells_of_its_cards() -> None:
    """By the library's own calls."""
    gpus = NvmlGpus.load(lambda _name: FakeNvml())

    assert gpus.memories() == [(8188 * 1024**2, 4094 * 1024**2)]


def test_nvml_tells_how_busy_each_process_keeps_a_gpu() -> None:
    """The latest sample of each, on whichever card it does more; a sample is read once."""
    gpus = NvmlGpus(
        NvmlThatTellsOfProcesses([(2, 7, 90), (1, 7, 10), (1, 8, 30)], [(1, 8, 5), (1, 9, 4_000)])
    )

    assert gpus.shares() == {7: 90, 8: 30}
    assert gpus.shares() == {}


def test_a_card_that_does_not_tell_of_processes_is_left_out() -> None:
    """When no card tells, nobody knows: that is not the same as idle."""
    assert NvmlGpus(NvmlThatTellsOfProcesses(None, [(1, 8, 5)])).shares() == {8: 5}
    assert NvmlGpus(NvmlThatTellsOfProcesses(None, [])).shares() == {}
    assert NvmlGpus(NvmlThatTellsOfProcesses(None)).shares() is None
    assert NvmlGpus(NvmlThatTellsOfProcesses()).shares() is None
    assert NvmlGpus(NvmlInAnUpdate()).shares() is None
    assert NoGpus().shares() is None


def test_without_library_or_driver_there_are_no_gpus() -> None:
    """Both are usual, and neither is an error."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    assert isinstance(NvmlGpus.load(missing), NoGpus)
    assert isinstance(NvmlGpus.load(lambda _name: NvmlWithoutDriver()), NoGpus)


def test_a_gpu_that_is_lost_is_left_out() -> None:
    """A heartbeat is no place to fail."""
    assert NvmlGpus.load(lambda _name: NvmlThatLostItsGpu()).memories() == []


def test_used_memory_is_what_is_not_available() -> None:
    """Caches are available."""
    assert memory_of(MEMINFO) == (32795652 * 1024, (32795652 - 24596739) * 1024)
    assert memory_of("") is None


@pytest.mark.parametrize(
    ("gib", "bucket"), [(1, "<=8GiB"), (8, "<=8GiB"), (8.1, "<=16GiB"), (128, "<=128GiB"), (129, ">128GiB")]
)
def test_memory_is_told_by_bucket(gib: float, bucket: str) -> None:
    """Never its exact size."""
    assert ram_bucket(int(gib * GIB)) == bucket


@pytest.mark.parametrize(
    ("gib", "tier"),
    [
        (0, "none"),
        (4, "lt8"),
        (7.996, "8-15"),
        (12, "8-15"),
        (15.99, "16-31"),
        (23.99, "16-31"),
        (31.8, "32plus"),
    ],
)
def test_gpu_memory_is_told_by_tier(gib: float, tier: str) -> None:
    """By the size that is printed on the box."""
    assert vram_tier(int(gib * GIB)) == tier
