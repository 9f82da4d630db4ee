"""How hard this machine works, in coarse steps and without any name; read only when the operator opted in.

NVML is optional twice: the library may be missing, and the driver may be. What cannot be read is not
guessed: without load or memory figures there is no pressure to report.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from provider_agent.protocol.vitals import (
    CpuPressure,
    GpuPressure,
    HardwarePressure,
    RamPressure,
    VramPressure,
)

GIB = 1024**3

_RAM_BUCKETS_GIB = (8, 16, 32, 64, 128)
_VRAM_TIERS_GIB = ((8, "lt8"), (16, "8-15"), (32, "16-31"))
_ALL = 100
_MEMINFO = Path("/proc/meminfo")

Load = Callable[[], tuple[float, float, float]]
_LOAD: Load | None = getattr(os, "getloadavg", None)  # Windows has none

Memory = tuple[int, int]
"""Bytes in all, and in use."""


class Gpus(Protocol):
    """Where GPUs can be asked."""

    def memories(self) -> list[Memory]:
        """Of each GPU; empty when there is none, or no driver."""
        ...

    def shares(self) -> dict[int, int] | None:
        """By process: for how many percent of the time it kept a GPU busy lately; None where nobody tells."""
        ...


class Hardware:
    """The machine, read anew at each call; cheap enough for every heartbeat.

    Attributes:
        gpus: asked for their memory; NVML by default.
        meminfo: the file of the kernel that tells of memory.
        load: the load averages of 1, 5 and 15 minutes; None where the platform has none.
    """

    def __init__(
        self,
        *,
        gpus: Gpus | None = None,
        meminfo: Path = _MEMINFO,
        load: Load | None = _LOAD,
        core_count: int | None = None,
    ) -> None:
        self._gpus = gpus if gpus is not None else NvmlGpus.load()
        self._meminfo = meminfo
        self._load = load
        self._core_count = core_count or os.cpu_count() or 1

    def pressure(self) -> HardwarePressure | None:
        """What may be told; None when load or memory cannot be read here."""
        try:
            memory = memory_of(self._meminfo.read_text())
            load_1m = None if self._load is None else self._load()[0]
        except OSError:
            return None
        if memory is None or load_1m is None:
            return None
        return HardwarePressure(
            cpu=CpuPressure(core_count=self._core_count, load_1m_ratio=round(load_1m / self._core_count, 2)),
            ram=RamPressure(used_ratio=_ratio(memory), total_bucket=ram_bucket(memory[0])),
            gpu=_gpu_pressure(self._gpus.memories()),
        )


class NvmlGpus:
    """NVIDIA's GPUs. Initialised once: that can take a good part of a second."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._seen: dict[int, int] = {}  # by GPU: the time of the last sample that was read

    @classmethod
    def load(cls, find: Callable[[str], Any] = importlib.import_module) -> Gpus:
        """Them, or none when library or driver is missing."""
        try:
            nvml = find("pynvml")
        except ImportError:
            return NoGpus()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return NoGpus()
        return cls(nvml)

    def memories(self) -> list[Memory]:
        found: list[Memory] = []
        with contextlib.suppress(self._nvml.NVMLError):  # a GPU that fell off the bus, a driver in an update
            for index in range(self._nvml.nvmlDeviceGetCount()):
                memory = self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByIndex(index))
                found.append((int(memory.total), int(memory.used)))
        return found

    def shares(self) -> dict[int, int] | None:
        told = []
        with contextlib.suppress(self._nvml.NVMLError):
            told = [self._samples(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        if all(samples is None for samples in told):
            return None
        found: dict[int, int] = {}
        for samples in filter(None, told):
            latest = {each.pid: int(each.smUtil) for each in sorted(samples, key=lambda each: each.timeStamp)}
            found |= {pid: max(share, found.get(pid, 0)) for pid, share in latest.items()}
        return {pid: share for pid, share in found.items() if share <= _ALL}  # some drivers tell nonsense

    def _samples(self, index: int) -> list[Any] | None:
        """Those of one GPU that are new; None where its driver does not tell, such as of a card with MIG."""
        nvml = self._nvml
        seen = self._seen.get(index, 0)
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(nvml.nvmlDeviceGetHandleByIndex(index), seen)
        except nvml.NVMLError as error:
            return [] if error.value == nvml.NVML_ERROR_NOT_FOUND else None  # nothing ran
        new = [each for each in samples if each.timeStamp > seen]
        self._seen[index] = max((each.timeStamp for each in new), default=seen)
        return new


class NoGpus:
    """A machine without GPUs that we can ask."""

    def memories(self) -> list[Memory]:
        return []

    def shares(self) -> dict[int, int] | None:
        return None


def memory_of(meminfo: str) -> Memory | None:
    """Total and used bytes from the text of `/proc/meminfo`; None when it does not say."""
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
    total, available = kib.get("MemTotal", 0), kib.get("MemAvailable")
    if not total or available is None:
        return None
    return total * 1024, max(total - available, 0) * 1024


def ram_bucket(total_bytes: int) -> str:
    """Such as `<=16GiB`."""
    for bucket_gib in _RAM_BUCKETS_GIB:
        if total_bytes <= bucket_gib * GIB:
            return f"<={bucket_gib}GiB"
    return f">{_RAM_BUCKETS_GIB[-1]}GiB"


def vram_tier(total_bytes: int) -> str:
    """Such as `8-15`. Whole GiB: a card that is sold with 16 GB reports a little less."""
    total_gib = round(total_bytes / GIB)
    if not total_bytes:
        return "none"
    return next((tier for below_gib, tier in _VRAM_TIERS_GIB if total_gib < below_gib), "32plus")


def _gpu_pressure(memories: list[Memory]) -> GpuPressure:
    whole = (sum(total for total, _ in memories), sum(used for _, used in memories))
    vram = VramPressure(total_tier=vram_tier(whole[0]), used_ratio=_ratio(whole) if whole[0] else None)
    return GpuPressure(available=bool(memories), count=len(memories), vram=vram)


def _ratio(memory: Memory) -> float:
    total, used = memory
    return round(used / total, 2)
