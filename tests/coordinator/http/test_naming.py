"""A name is a name, or one without its `:latest`; also of a model that has just gone."""

import pytest

from provider_agent.coordinator.fleet import Fleet, Provider
from provider_agent.coordinator.http.naming import meant
from provider_agent.protocol.frames import ModelOffer
from tests.fakes.agents import CHAT, RecordingSession, capabilities, offer

NATIVE = "/api/chat"


def is_native(offered: ModelOffer) -> bool:
    return NATIVE in offered.endpoints


def fleet(*offers: ModelOffer) -> Fleet:
    made, provider = Fleet(), Provider("a", RecordingSession())
    provider.take_capabilities(capabilities(*offers))
    made.add(provider)
    return made


@pytest.mark.parametrize(
    ("served", "said", "expected"),
    [
        (("m",), "m", "m"),
        (("m:latest",), "m", "m:latest"),
        (("m", "m:latest"), "m", "m"),
        (("m:latest",), "m:latest", "m:latest"),
        (("m:7b",), "m", None),
    ],
)
def test_the_tag_may_be_left_out(served: tuple[str, ...], said: str, expected: str | None) -> None:
    """Unless there is a model of just that name; another tag is another model."""
    assert meant(fleet(*map(offer, served)), said) == expected


def test_what_the_door_can_serve_goes_first() -> None:
    """One that is served elsewhere only is meant if there is no other."""
    both = fleet(offer("m", endpoints=(CHAT,)), offer("m:latest", endpoints=(NATIVE,)))

    assert meant(both, "m", is_native) == "m:latest"
    assert meant(fleet(offer("m")), "m", is_native) == "m"


@pytest.mark.parametrize("name", ["m", "m:latest"])
def test_a_model_that_has_just_gone_is_still_meant(name: str) -> None:
    """Whoever asks for it waits for its return, and is not told that there is none."""
    left = fleet(offer(name))
    (provider,) = left.providers
    left.remove(provider)

    assert (meant(left, "m"), meant(left, "n")) == (name, None)
