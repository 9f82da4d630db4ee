"""An engine without a GPU: OpenAI and Ollama APIs with set speed, latency and failures."""

from provider_agent.simulator.app import Simulator
from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.failures import Failures
from provider_agent.simulator.pacing import Pace

__all__ = ["Failures", "Pace", "Simulator", "SimulatorConfig"]
