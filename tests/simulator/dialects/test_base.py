"""What pages are made of."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from provider_agent.simulator.dialects.base import NoSuchModel, View, described, fixed, listing
from provider_agent.simulator.memory import Memory
from provider_agent.simulator.slots import Slots
from tests.fakes.simulators import HandTime

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def view(*models: str, load_s: float = 0.0, keep_s: float = math.inf, time: HandTime | None = None) -> View:
    """An engine with 3 slots of 2,048 tokens, and the model `a` if no other is named."""
    time = time or HandTime()
    names = models or ("a",)
    memory = Memory(names, load_s=load_s, keep_s=keep_s, clock=time, sleep=time.sleep)
    return View(names, 2048, Slots(3), memory, NOW, lambda: NOW)


def test_a_listing_names_each_model_with_its_owner_and_window() -> None:
    """Under the family's own name for the window."""
    cards = listing("me", window="n", more={"x": 1})(view("a", "b"), {})["data"]

    assert [card["id"] for card in cards] == ["a", "b"]
    assert {(card["owned_by"], card["n"], card["x"]) for card in cards} == {("me", 2048, 1)}


def test_a_listing_may_name_no_owner() -> None:
    """Some do not."""
    (card,) = listing(None)(view(), {})["data"]

    assert "owned_by" not in card


def test_a_description_has_a_title_and_paths() -> None:
    """As FastAPI writes it."""
    page = described("/a", title="Me")(view(), {})

    assert (page["info"]["title"], list(page["paths"])) == ("Me", ["/a"])
    assert fixed(5)(view(), {}) == 5


def test_only_models_that_are_there_can_be_asked_about() -> None:
    """The name is in the sentence."""
    assert view().require("a") == "a"
    with pytest.raises(NoSuchModel, match="model 'b' not found"):
        view().require("b")


def test_what_stays_for_good_ends_far_away() -> None:
    """A date all the same."""
    assert view().ends_at("a").year > 2300
    assert view("a", load_s=1).ends_at("a") == NOW


async def test_what_stays_for_a_while_has_its_end() -> None:
    """From now on."""
    shown = view("a", keep_s=60)
    async with shown.memory.using("a"):
        pass

    assert shown.ends_at("a") == NOW + timedelta(seconds=60)
    assert shown.loaded == ("a",)
