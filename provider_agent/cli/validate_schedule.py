"""Why the agent would take no jobs at this moment, though nothing is broken; knows no engine."""

from collections.abc import Callable, Collection

from provider_agent.agent.config_sections import ScheduleSection
from provider_agent.agent.gpu_watch import BUSY_PERCENT, WHY_BLIND
from provider_agent.agent.pause import rest_now
from provider_agent.cli.validate_start import Problem
from provider_agent.telemetry.gpu_use import GpuUse

_ABOUT = "schedule"


def schedule_problems(
    section: ScheduleSection,
    ports: Collection[int],
    now_s: float,
    *,
    find_gpu: Callable[[], GpuUse] = GpuUse,
) -> list[Problem]:
    """What makes it rest, or should and cannot; `ports` are the engines'."""
    rest = rest_now(section.hours, now_s)
    found = [] if rest is None else [f"the agent takes no jobs now: {rest.why}"]
    if section.pause_when_gpu_busy:
        found += _of_gpu(find_gpu(), ports)
    return [Problem("warning", _ABOUT, text) for text in found]


def _of_gpu(gpu: GpuUse, ports: Collection[int]) -> list[str]:
    if not gpu.can_tell:
        return [f"schedule.pause_when_gpu_busy does nothing here: {WHY_BLIND}"]
    percent = gpu.by_others(ports) or 0
    if percent < BUSY_PERCENT:
        return []
    return [f"other programs use {percent} % of a GPU now; while they go on, the agent takes no jobs"]
