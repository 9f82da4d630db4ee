"""What one simulated engine is like; knows no server."""

from dataclasses import dataclass
from typing import Literal

from provider_agent.simulator.failures import Failures
from provider_agent.simulator.pacing import Pace

Api = Literal[
    "openai", "vllm", "sglang", "llamacpp", "llamacpp-router", "llamafile", "lmstudio", "ollama", "tgi",
    "localai", "koboldcpp", "jan", "docker", "transformers", "mlx", "llamacpp-python", "remote",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated engine.

    Attributes:
        port: 0 for any free one.
        api: which engine family it speaks like; `openai` is nobody special.
        pace: speed of each answer; slots do not share it.
        slots: answers made at the same time; more requests wait, or are refused as the family does.
        load_s: how long it takes to load a model: of engines that load on demand, each is cold at first and
            its first request waits; the others answer 503, or do not listen, so long after the start.
        context_window: in tokens, prompt and answer together.
        failures: what goes wrong in every answer; a request's header adds to it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    api: Api = "openai"
    models: tuple[str, ...] = ("simulated-7b",)
    pace: Pace = Pace()  # noqa: RUF009 - frozen
    slots: int = 4
    load_s: float = 0.0
    context_window: int = 32_768
    failures: Failures = Failures()  # noqa: RUF009 - frozen
