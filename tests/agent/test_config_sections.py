"""Settings as values: ranges, derived values, and what they show of themselves."""

from zoneinfo import ZoneInfo

import msgspec
import pytest

from provider_agent.agent.config_sections import (
    BackendSection,
    CoordinatorSection,
    LimitsSection,
    ModelPrice,
    PricingSection,
    ScheduleSection,
    TelemetrySection,
    default_key_path,
)
from provider_agent.agent.schedule import parse_hours
from provider_agent.backends.families import AUTO, FAMILIES


def test_a_model_without_its_own_price_has_the_default() -> None:
    """Input and output each for itself; zero is a price, too."""
    pricing = PricingSection(
        default_input_per_1m=1,
        default_output_per_1m=2,
        models={"a": ModelPrice(output_per_1m=0)},
    )

    assert pricing.of("a") == (1, 0)
    assert pricing.of("b") == (1, 2)


@pytest.mark.parametrize("slots", [1, 256])
def test_the_number_of_slots_has_limits(slots: int) -> None:
    """1 to 256, as in the field."""
    assert msgspec.convert({"max_concurrent": slots}, LimitsSection).max_concurrent == slots


def test_the_status_page_has_an_address_unless_it_is_off() -> None:
    """IPv6 is written in brackets; a port is needed."""
    assert TelemetrySection().status_address == ("127.0.0.1", 9464)
    assert TelemetrySection(status_listen="").status_address is None
    assert TelemetrySection(status_listen="[::1]:0").status_address == ("::1", 0)
    for wrong in ("localhost", "x:99999", "x:y"):
        with pytest.raises(ValueError, match=r"port|Port"):
            _ = TelemetrySection(status_listen=wrong).status_address


def test_a_schedule_is_unset_until_it_may_make_the_agent_rest() -> None:
    """A time zone alone changes nothing."""
    assert not ScheduleSection(timezone="Europe/Berlin").is_set
    assert ScheduleSection(pause_when_gpu_busy=True).is_set
    assert ScheduleSection(active="22:00-07:00").hours.ranges == parse_hours("22:00-07:00")
    assert ScheduleSection(timezone="Europe/Berlin").hours.zone == ZoneInfo("Europe/Berlin")


def test_a_section_hides_what_is_secret() -> None:
    """That one is set may be seen, and all the rest."""
    section = CoordinatorSection(url="wss://c/", enrollment_code="hunter2", proxy="http://u:hunter2@p:1")

    assert "hunter2" not in repr(section)
    assert repr(section).startswith("CoordinatorSection(url='wss://c/', enrollment_code=…")
    assert "enrollment_code=None" in repr(CoordinatorSection(url="wss://c/"))


def test_the_key_is_kept_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service sets that directory by the variable of the platform."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib")

    assert default_key_path().parts[-2:] == ("provider-agent", "identity.key")


def test_every_family_of_engines_may_be_named() -> None:
    """What the operator may write is what there is."""
    kinds = BackendSection.__annotations__["kind"].__args__

    assert set(kinds) == {AUTO, *FAMILIES}
