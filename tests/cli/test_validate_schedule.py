"""Whoever wonders why no job comes is told before anything runs."""

from datetime import UTC, datetime

import pytest

from provider_agent.agent.config_sections import ScheduleSection
from provider_agent.cli.validate_schedule import schedule_problems
from tests.fakes.gpus import BlindGpuUse, ScriptedGpuUse

NOON_S = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()


def told(use: ScriptedGpuUse | None = None, **settings: str | bool) -> list[str]:
    section = ScheduleSection(**settings)  # type: ignore[arg-type]
    found = schedule_problems(section, {11434}, NOON_S, find_gpu=lambda: use or ScriptedGpuUse())
    assert {problem.level for problem in found} <= {"warning"}
    return [problem.text for problem in found]


def test_an_agent_that_serves_now_has_no_problem() -> None:
    """With hours, or without."""
    assert told() == []
    assert told(active="09:00-17:00", timezone="UTC", pause_when_gpu_busy=True) == []


def test_an_agent_outside_its_hours_takes_no_jobs() -> None:
    """It says until when (field note 79)."""
    assert told(active="22:00-07:00", timezone="UTC") == [
        "the agent takes no jobs now: outside active hours, until 22:00 (UTC)"
    ]


@pytest.mark.parametrize(("percent", "count"), [(24, 0), (25, 1), (None, 0)])
def test_a_gpu_that_others_use_now_is_told(percent: int | None, count: int) -> None:
    """One look is all that there is time for (field note 79)."""
    use = ScriptedGpuUse()
    use.percent = percent

    assert len(told(use, pause_when_gpu_busy=True)) == count
    assert told(use) == []


def test_a_pause_that_cannot_work_here_is_a_warning() -> None:
    """The agent serves all the same."""
    (text,) = told(BlindGpuUse(), pause_when_gpu_busy=True)

    assert text.startswith("schedule.pause_when_gpu_busy does nothing here")
    assert "nvidia-ml-py" in text
