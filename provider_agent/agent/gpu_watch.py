"""Whether somebody else uses the GPU for good; knows neither what a pause is nor how GPUs are asked."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from provider_agent.telemetry.gpu_use import GpuUse
from provider_agent.telemetry.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY_S: Final = 2.0
BUSY_PERCENT: Final = 25
"""Of a GPU; a desktop takes less, a game or a training run more."""

LOOKS_UNTIL_BUSY: Final = 4
LOOKS_UNTIL_FREE: Final = 30
QUIET_S: Final = LOOKS_UNTIL_FREE * LOOK_EVERY_S

WHY_BLIND: Final = (
    "only NVIDIA's driver under Linux tells who uses a GPU, and only if the package nvidia-ml-py is installed"
)


class GpuWatch:
    """Makes up its mind slowly: a flicker of the desktop is no game, and a loading screen not its end.

    Attributes:
        is_busy: somebody else uses it.
        is_blind: that cannot be told on this machine.
    """

    def __init__(self, ports: Callable[[], Collection[int]], *, find: Callable[[], GpuUse] = GpuUse) -> None:
        """`ports` gives those of the engines: what they use is not somebody else's."""
        self.is_busy = False
        self.is_blind = False
        self._ports = ports
        self._find = find
        self._gpu: GpuUse | None = None
        self._looks = 0  # in a row that spoke for the other state

    async def look(self) -> None:
        """To be called every `LOOK_EVERY_S`. In a thread: driver and kernel may take their time."""
        if not self.is_blind:
            self._note(await asyncio.to_thread(self._percent, self._ports()))

    def forget(self) -> None:
        """Nobody looks any more: what was seen is old."""
        self.is_busy, self._looks = False, 0

    def _percent(self, ports: Collection[int]) -> int | None:
        if self._gpu is None:
            gpu = self._find()
            if not gpu.can_tell:
                self.is_blind = True
                log.warning(
                    "gpu_use_unknown", reason=WHY_BLIND, effect="schedule.pause_when_gpu_busy does nothing"
                )
                return None
            self._gpu = gpu
        return self._gpu.by_others(ports)

    def _note(self, percent: int | None) -> None:
        """None, from a driver that does not answer just now, is no sign of use."""
        if (percent is not None and percent >= BUSY_PERCENT) is self.is_busy:
            self._looks = 0
            return
        self._looks += 1
        if self._looks >= (LOOKS_UNTIL_FREE if self.is_busy else LOOKS_UNTIL_BUSY):
            self.is_busy, self._looks = not self.is_busy, 0
