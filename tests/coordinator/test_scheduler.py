"""The agent with the most free slots gets the job; every other case has its own answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from provider_agent.coordinator.fleet import Provider, Slot
from provider_agent.coordinator.scheduler import WAIT, Refusal, Wait, choose
from provider_agent.protocol.errors import ErrorCode
from tests.fakes.agents import CHAT, EMBEDDINGS, RecordingSession, capabilities, offer


def provider(
    provider_id: str,
    *models: str,
    slots: int = 4,
    taken: int = 0,
    endpoints: tuple[str, ...] = (CHAT,),
    max_job_bytes: int | None = None,
    warm: bool | None = None,
) -> Provider:
    made = Provider(provider_id, RecordingSession())
    made.take_capabilities(
        capabilities(
            *(replace(offer(model, endpoints=endpoints), warm=warm) for model in models),
            slots=slots,
            max_job_bytes=max_job_bytes,
        )
    )
    made.jobs.update({f"{provider_id}-{i}": Slot(models[0]) for i in range(taken)})
    return made


def chosen(choice: object) -> str:
    assert isinstance(choice, Provider), choice
    return choice.provider_id


def test_the_provider_with_the_most_free_slots_is_chosen() -> None:
    """Free, not many: a large one that is busy stands back (field note 71)."""
    fleet = [provider("a", "m", slots=8, taken=6), provider("b", "m", slots=4, taken=1)]

    assert chosen(choose("m", CHAT, fleet)) == "b"


def test_the_limit_of_the_model_counts_where_it_is_smaller() -> None:
    """Many slots for other models are of no use to this one."""
    narrow = provider("a", "m", slots=8)
    narrow.take_capabilities(capabilities(offer("m", max_concurrent=1), slots=8))

    assert chosen(choose("m", CHAT, [narrow, provider("b", "m", slots=2)])) == "b"


def test_equals_take_turns() -> None:
    """The one that was chosen least recently is next."""
    a, b = provider("a", "m"), provider("b", "m")
    a.last_chosen, b.last_chosen = 7, 3

    assert chosen(choose("m", CHAT, [a, b])) == "b"


@pytest.mark.parametrize("warm", [True, None])
def test_where_the_model_is_in_memory_is_better_than_where_it_is_not(warm: bool | None) -> None:
    """Field note 72: loading takes minutes; who does not say is not taken for cold."""
    fleet = [provider("a", "m", slots=8, warm=False), provider("b", "m", slots=4, taken=3, warm=warm)]

    assert chosen(choose("m", CHAT, fleet)) == "b"


def test_only_the_warmth_of_the_model_that_is_asked_for_counts() -> None:
    """The same agent may be warm for another one."""
    mixed = provider("a", "other", "m", slots=2)
    offers = (replace(offer("other"), warm=False), replace(offer("m"), warm=True))
    mixed.take_capabilities(capabilities(*offers, slots=2))

    assert chosen(choose("m", CHAT, [provider("b", "m", slots=8, warm=False), mixed])) == "a"


def test_a_cold_provider_is_chosen_once_the_warm_ones_are_full() -> None:
    """Nobody starves behind a warm agent (field notes 72 and 73)."""
    fleet = [provider("a", "m", slots=2, taken=2, warm=True), provider("b", "m", slots=1, warm=False)]

    assert chosen(choose("m", CHAT, fleet)) == "b"


_PROVIDER = st.tuples(
    st.integers(1, 4), st.integers(0, 4), st.sampled_from([True, None, False]), st.integers(0, 3)
)


@given(st.lists(_PROVIDER, min_size=1, max_size=6))
def test_a_job_waits_only_while_all_are_full_and_goes_to_a_cold_one_only_while_all_others_are(
    made: list[tuple[int, int, bool | None, int]],
) -> None:
    """Whatever the fleet is like; among those as warm, the most free slots, then the longest idle."""
    fleet = []
    for number, (slots, taken, warm, last_chosen) in enumerate(made):
        fleet.append(provider(f"p{number}", "m", slots=slots, taken=min(taken, slots), warm=warm))
        fleet[-1].last_chosen = last_chosen
    free = [each for each in fleet if each.free_slots_for("m")]

    choice = choose("m", CHAT, fleet)

    if not free:
        assert choice is WAIT
        return
    assert isinstance(choice, Provider)
    assert choice in free
    ready = [each for each in free if each.offers["m"].warm is not False] or free
    assert choice in ready
    assert choice.free_slots_for("m") == max(each.free_slots_for("m") for each in ready)
    equals = [each for each in ready if each.free_slots_for("m") == choice.free_slots_for("m")]
    assert choice.last_chosen == min(each.last_chosen for each in equals)


def test_an_unknown_model_is_refused() -> None:
    """Nobody serves it, so waiting would not help (field note 9)."""
    choice = choose("other", CHAT, [provider("a", "m")])

    assert Refusal(ErrorCode.MODEL_NOT_LOADED, "no agent serves the model 'other'") == choice


def test_a_model_that_may_soon_be_back_is_waited_for() -> None:
    """An agent that is started anew costs its clients seconds."""
    assert choose("m", CHAT, [], back_within_s=3.0) == Wait(at_most_s=3.0)


def test_a_model_that_went_is_away_and_not_unknown() -> None:
    """503: clients try that again."""
    choice = choose("m", CHAT, [], back_within_s=0.0)

    assert isinstance(choice, Refusal)
    assert (choice.code, "try again" in choice.message) == (ErrorCode.AGENT_SHUTDOWN, True)


def test_an_unknown_model_is_refused_even_when_all_are_busy() -> None:
    """Permanent reasons come before passing ones (field note 9)."""
    choice = choose("other", CHAT, [provider("a", "m", slots=1, taken=1)])

    assert isinstance(choice, Refusal)


def test_an_endpoint_that_is_not_offered_is_refused_by_name() -> None:
    """The sentence says what would work."""
    choice = choose("m", CHAT, [provider("a", "m", endpoints=(EMBEDDINGS,))])

    assert isinstance(choice, Refusal)
    assert ErrorCode.UNSUPPORTED_ENDPOINT is choice.code
    assert choice.message == f"the model 'm' is not served at {CHAT}, only at {EMBEDDINGS}"


def test_only_providers_with_the_endpoint_are_asked() -> None:
    """The one with more room does not offer it."""
    fleet = [provider("a", "m", slots=8, endpoints=(EMBEDDINGS,)), provider("b", "m", slots=1)]

    assert chosen(choose("m", CHAT, fleet)) == "b"


def test_an_excluded_provider_is_passed_over() -> None:
    """It has failed this job."""
    fleet = [provider("a", "m", slots=8), provider("b", "m", slots=1)]

    assert chosen(choose("m", CHAT, fleet, {"a"})) == "b"


def test_when_everybody_is_excluded_waiting_does_not_help() -> None:
    """The client hears of it now."""
    assert isinstance(choose("m", CHAT, [provider("a", "m")], {"a"}), Refusal)


def test_a_request_goes_only_to_who_takes_one_so_large() -> None:
    """The other one would refuse it; to the byte, as it says (field note 19)."""
    fleet = [provider("a", "m", slots=8, max_job_bytes=99), provider("b", "m", slots=1, max_job_bytes=100)]

    assert chosen(choose("m", CHAT, fleet, size_bytes=99)) == "a"
    assert chosen(choose("m", CHAT, fleet, size_bytes=100)) == "b"


def test_a_request_that_is_too_large_for_everybody_is_refused() -> None:
    """Also when they have failed it before: that is a passing reason, and this is not (field note 9)."""
    choice = choose("m", CHAT, [provider("a", "m", max_job_bytes=99)], {"a"}, size_bytes=100)

    assert isinstance(choice, Refusal)
    assert ErrorCode.REQUEST_TOO_LARGE is choice.code


def test_who_names_no_size_takes_any() -> None:
    """As protocol 2 does."""
    assert chosen(choose("m", CHAT, [provider("a", "m")], size_bytes=2**40)) == "a"


@pytest.mark.parametrize("trouble", ["away", "unheard"])
def test_a_job_waits_for_who_is_not_there_yet(trouble: str) -> None:
    """It is away, or back and has not said what it serves now."""
    one = provider("a", "m")
    if trouble == "away":
        one.session = None
    one.serves = trouble != "unheard"

    assert WAIT is choose("m", CHAT, [one])


@pytest.mark.parametrize("trouble", ["busy", "full", "draining"])
def test_a_job_waits_while_all_who_could_serve_it_cannot(trouble: str) -> None:
    """Each of these may pass."""
    one = provider("a", "m", slots=1, taken=trouble == "busy")
    one.full_for, one.draining = {"m"} if trouble == "full" else set(), trouble == "draining"

    assert WAIT is choose("m", CHAT, [one])


def test_an_excluded_provider_with_room_does_not_end_the_wait_for_another() -> None:
    """The other one is only busy."""
    fleet = [provider("a", "m"), provider("b", "m", slots=1, taken=1)]

    assert WAIT is choose("m", CHAT, fleet, {"a"})


def test_a_long_model_name_is_not_repeated_whole() -> None:
    """What a client sends must not come back by the kilobyte."""
    choice = choose("x" * 10_000, CHAT, [])

    assert isinstance(choice, Refusal)
    assert len(choice.message) < 200
