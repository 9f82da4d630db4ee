"""What a heartbeat tells of an agent."""

import msgspec

from provider_agent.protocol import vitals


def test_pressure_is_ratios_and_tiers() -> None:
    """Nothing in it names a device, a path, or an exact size."""
    pressure = vitals.HardwarePressure(
        cpu=vitals.CpuPressure(core_count=8, load_1m_ratio=0.5),
        ram=vitals.RamPressure(used_ratio=0.25, total_bucket="<=16GiB"),
        gpu=vitals.GpuPressure(available=True, count=1, vram=vitals.VramPressure(total_tier="16-31")),
    )

    assert msgspec.to_builtins(pressure) == {
        "cpu": {"core_count": 8, "load_1m_ratio": 0.5},
        "ram": {"used_ratio": 0.25, "total_bucket": "<=16GiB"},
        "gpu": {"available": True, "count": 1, "vram": {"total_tier": "16-31", "used_ratio": None}},
    }
