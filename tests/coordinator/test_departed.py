"""A model that went is remembered for a day, and no more of them than a bound."""

from provider_agent.coordinator.departed import MOST, REMEMBERED_S, RETURN_S, Departed
from tests.fakes.clocks import ManualClock


def test_a_model_that_has_just_gone_is_worth_waiting_for() -> None:
    """Half a minute, from the latest time that it went; after that it is away."""
    clock = ManualClock()
    departed = Departed(clock)
    departed.leave(["m"])
    clock.advance(3)
    assert departed.back_within_s("m") == RETURN_S - 3

    departed.leave(["m"])
    assert departed.back_within_s("m") == RETURN_S
    clock.advance(RETURN_S + 1)
    assert departed.back_within_s("m") == 0


def test_a_model_that_is_back_has_not_gone() -> None:
    """Neither has one that nobody ever had."""
    departed = Departed(ManualClock())
    departed.leave(["m"])

    departed.forget(["m", "n"])

    assert (departed.back_within_s("m"), departed.back_within_s("n")) == (None, None)


def test_after_a_day_nobody_ever_had_it() -> None:
    """Until then it may be back."""
    clock = ManualClock()
    departed = Departed(clock)
    departed.leave(["m"])

    clock.advance(REMEMBERED_S - 1)
    assert departed.back_within_s("m") == 0
    clock.advance(1)
    assert departed.back_within_s("m") is None


def test_while_it_is_young_everything_may_still_come() -> None:
    """Whoever has just been started anew has heard of nothing yet."""
    clock = ManualClock()
    departed = Departed(clock, young_s=10)
    clock.advance(9)
    assert departed.back_within_s("m") == 1

    clock.advance(1)
    assert departed.back_within_s("m") is None


def test_of_too_many_names_those_that_went_first_are_forgotten() -> None:
    """An agent may make up as many as it likes."""
    departed = Departed(ManualClock())
    departed.leave(["first", "second"])
    departed.leave(["first"])

    departed.leave(str(i) for i in range(MOST - 1))

    assert (departed.back_within_s("second"), departed.back_within_s("first")) == (None, RETURN_S)
