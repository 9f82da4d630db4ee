"""What is loaded and kept in memory, and what is left alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.routing import Route
from provider_agent.agent.warmth import (
    CHECK_S,
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    MOST_LOSSES,
    PAUSE_S,
    SETTLE_S,
    SOON_S,
    Warmth,
)
from provider_agent.backends.base import BackendModel
from tests.fakes.backends import CHAT, ScriptedBackend


def route(model_id: str = "m", *, is_loaded: bool | None = False) -> Route:
    return Route(ScriptedBackend(), BackendModel(model_id, frozenset({CHAT}), is_loaded=is_loaded))


def seen(known: Route, *, is_loaded: bool) -> Route:
    return replace(known, model=replace(known.model, is_loaded=is_loaded))


def lost_soon(warmth: Warmth, cold: Route, now_s: float, times: int = 1) -> float:
    """Loaded, seen in memory, and found unloaded soon after, so often; the time of the last look."""
    for _ in range(times):
        assert warmth.plan([cold], now_s).due == (cold,)
        warmth.succeeded(cold, now_s)
        warmth.plan([seen(cold, is_loaded=True)], now_s + 1)
        now_s += SOON_S - 1
    return now_s


def test_a_cold_model_is_loaded() -> None:
    """The ordinary case: in the operator's order, and nobody is given up."""
    a, b = route("a"), route("b")

    assert Warmth().plan([a, b], 0.0) == ((a, b), ())


def test_a_model_in_memory_is_looked_after_again_and_again() -> None:
    """Some engines forget it after minutes; whether there is something to do is theirs to know."""
    warmth, warm = Warmth(), route(is_loaded=True)
    first = warmth.plan([warm], 0.0).due
    was_loaded = warmth.succeeded(warm, 0.0)

    assert (first, was_loaded) == ((warm,), False)
    assert warmth.plan([warm], 1.0).due == ()
    assert warmth.plan([warm], CHECK_S).due == (warm,)


def test_a_model_that_was_just_loaded_is_not_loaded_again_before_its_engine_could_say_so() -> None:
    """The last look was before the load."""
    warmth, cold = Warmth(), route()
    warmth.plan([cold], 0.0)
    was_loaded = warmth.succeeded(cold, 0.0)

    assert was_loaded
    assert warmth.plan([cold], SETTLE_S - 1) == ((), ())
    assert warmth.plan([cold], SETTLE_S).due == (cold,)


def test_a_model_that_left_is_loaded_again() -> None:
    """Once is no circle: the engine may have been started anew."""
    warmth, cold = Warmth(), route()
    now_s = lost_soon(warmth, cold, 0.0)

    assert warmth.plan([cold], now_s) == ((cold,), ())


def test_a_model_that_is_unloaded_soon_again_and_again_is_left_alone_for_a_while() -> None:
    """More is wanted than fits; after the pause it has one chance."""
    warmth, cold = Warmth(), route()
    now_s = lost_soon(warmth, cold, 0.0, MOST_LOSSES)

    assert warmth.plan([cold], now_s) == ((), (cold,))
    assert warmth.plan([cold], now_s + PAUSE_S - 1) == ((), ())
    now_s = lost_soon(warmth, cold, now_s + PAUSE_S)
    assert warmth.plan([cold], now_s) == ((), (cold,))


def test_a_model_that_was_idle_for_long_is_loaded_again_for_ever() -> None:
    """Engines unload what nobody uses."""
    warmth, cold, now_s = Warmth(), route(), 0.0
    for _ in range(3 * MOST_LOSSES):
        assert warmth.plan([cold], now_s) == ((cold,), ())
        warmth.succeeded(cold, now_s)
        warmth.plan([seen(cold, is_loaded=True)], now_s + 1)
        now_s += SOON_S


def test_a_model_that_stayed_has_a_clean_slate() -> None:
    """Only losses in a row count."""
    warmth, cold = Warmth(), route()
    now_s = lost_soon(warmth, cold, 0.0, MOST_LOSSES - 1)
    warmth.plan([cold], now_s)
    warmth.succeeded(cold, now_s)
    warmth.plan([seen(cold, is_loaded=True)], now_s + SOON_S)

    assert warmth.plan([cold], now_s + SOON_S + 1) == ((cold,), ())
    assert warmth.plan([cold], lost_soon(warmth, cold, now_s + SOON_S + 1)).given_up == ()


def test_what_fails_is_tried_again_ever_more_rarely() -> None:
    """A model that is too large would else cost its engine a load each half minute."""
    warmth, cold = Warmth(), route()
    pauses, now_s = [], 0.0
    for number in range(8):
        pause_s = warmth.failed(cold, f"reason {number}", now_s)
        assert pause_s is not None
        assert warmth.plan([cold], now_s + pause_s - 0.1).due == ()
        now_s += pause_s
        assert warmth.plan([cold], now_s).due == (cold,)
        pauses.append(pause_s)

    assert pauses[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert pauses[-1] == LONGEST_RETRY_S


def test_the_same_reason_is_news_once() -> None:
    """Until it was loaded after all."""
    warmth, cold = Warmth(), route()
    said = [warmth.failed(cold, "too large", 0.0) for _ in range(3)]
    warmth.succeeded(cold, 0.0)

    assert said == [FIRST_RETRY_S, None, None]
    assert warmth.failed(cold, "too large", 0.0) == FIRST_RETRY_S


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    """Memory stays flat, and a model that comes back is tried at once."""
    warmth, cold = Warmth(), route()
    warmth.failed(cold, "too large", 0.0)
    warmth.plan([], 1.0)

    assert warmth.plan([cold], 2.0).due == (cold,)


def test_a_change_of_the_operators_is_a_new_beginning() -> None:
    """Fewer models may fit."""
    warmth, cold = Warmth(), route()
    warmth.plan([cold], lost_soon(warmth, cold, 0.0, MOST_LOSSES))
    warmth.forget()

    assert warmth.plan([cold], 0.0).due == (cold,)


@given(st.lists(st.tuples(st.floats(0.0, 400.0), st.sampled_from([True, False, None]), st.booleans())))
def test_no_engine_loads_in_a_circle(
    looks: list[tuple[float, bool | None, bool]],
) -> None:
    """Whatever it says of its memory, and whether or not it can load the model."""
    warmth, now_s, loads = Warmth(), 0.0, list[float]()
    for passed_s, is_loaded, works in looks:
        now_s += passed_s
        known = route(is_loaded=is_loaded)
        if known in warmth.plan([known], now_s).due:
            if works:
                if warmth.succeeded(known, now_s):
                    loads.append(now_s)
            else:
                warmth.failed(known, "no", now_s)

    for began_s in loads:
        assert sum(began_s <= each < began_s + SOON_S for each in loads) <= MOST_LOSSES
