"""What a simulated engine is like when nobody says anything."""

from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.failures import Failures


def test_an_engine_is_healthy_and_on_loopback_unless_told_otherwise() -> None:
    """Nothing fails by itself, nothing listens to the network."""
    config = SimulatorConfig()

    assert config.failures == Failures()
    assert config.host == "127.0.0.1"
