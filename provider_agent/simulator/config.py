"""What one simulated engine is like; knows no server."""

from dataclasses import dataclass
from typing import Literal

from provider_agent.simulator.failures import Failures
from provider_agent.simulator.pacing import Pace

Api = Literal["openai", "ollama"]


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated engine.

    Attributes:
        port: 0 for any free one.
        api: `openai` serves `/v1/*`; `ollama` serves `/api/*` as well.
        pace: speed of each answer; slots do not share it.
        slots: answers made at the same time; more requests wait.
        context_window: in tokens, prompt and answer together.
        failures: what goes wrong in every answer; a request's header adds to it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    api: Api = "openai"
    models: tuple[str, ...] = ("simulated-7b",)
    pace: Pace = Pace()  # noqa: RUF009 - frozen
    slots: int = 4
    context_window: int = 32_768
    failures: Failures = Failures()  # noqa: RUF009 - frozen
