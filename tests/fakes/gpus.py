"""Programs that use a GPU, as a test says."""

from collections.abc import Collection
from pathlib import Path

from provider_agent.telemetry.gpu_use import GpuUse
from provider_agent.telemetry.hardware import NoGpus


class ScriptedGpuUse(GpuUse):
    """Others use so much of it.

    Attributes:
        percent: what is told next; None while the driver does not answer.
        asked: the ports of the engines, at each look.
    """

    def __init__(self) -> None:
        super().__init__(gpus=NoGpus(), proc=Path("/nowhere"))
        self.percent: int | None = 0
        self.asked: list[Collection[int]] = []

    @property
    def can_tell(self) -> bool:
        return True

    def by_others(self, ports: Collection[int]) -> int | None:
        self.asked.append(ports)
        return self.percent


class BlindGpuUse(ScriptedGpuUse):
    """A machine on which nobody can tell."""

    @property
    def can_tell(self) -> bool:
        return False
