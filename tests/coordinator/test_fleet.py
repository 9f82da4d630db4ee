"""Providers count their slots by what they hold; names and offers are taken with care."""

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.departed import MOST, RETURN_S
from provider_agent.coordinator.fleet import (
    STREAM_IDS,
    Fleet,
    Provider,
    Slot,
    endpoints_of,
    features_of,
    plain_text,
)
from provider_agent.protocol.frames import Heartbeat, RejectedModel, UnreadableOffer
from tests.fakes.agents import CHAT, EMBEDDINGS, RecordingSession, capabilities, offer
from tests.fakes.clocks import ManualClock


def provider(provider_id: str = "a", *, slots: int = 4, model_slots: int = 4) -> Provider:
    made = Provider(provider_id, RecordingSession())
    made.take_capabilities(capabilities(offer("m", max_concurrent=model_slots), slots=slots, name="den"))
    return made


def test_free_slots_are_what_the_jobs_leave() -> None:
    """A slot is taken by a row in `jobs` and by nothing else, so a count cannot drift (field note 71)."""
    one = provider(slots=4)

    one.jobs["j"] = Slot("m")

    assert (one.free_slots, one.free_slots_for("m")) == (3, 3)


def test_a_model_has_no_more_slots_than_its_own_limit() -> None:
    """The smaller of the agent's and the model's limit counts; jobs of other models take from the first."""
    one = provider(slots=3, model_slots=2)
    one.take_capabilities(capabilities(offer("m", max_concurrent=2), offer("n"), slots=3))

    assert one.free_slots_for("m") == 2

    one.jobs["j"], one.jobs["k"] = Slot("n"), Slot("n")

    assert one.free_slots_for("m") == 1


def test_jobs_of_a_model_take_of_its_own_limit() -> None:
    """However much room the agent has for others."""
    one = provider(slots=9, model_slots=2)

    one.jobs["j"] = Slot("m")
    assert one.free_slots_for("m") == 1
    one.jobs["k"] = Slot("m")
    assert (one.free_slots_for("m"), one.free_slots) == (0, 7)


def test_a_model_that_is_not_offered_has_no_slots() -> None:
    """Asking for it is no error."""
    assert provider().free_slots_for("other") == 0


def test_a_limit_that_shrank_below_the_running_jobs_leaves_no_slots() -> None:
    """Never a negative number."""
    one = provider(slots=4)
    one.jobs.update({str(i): Slot("m") for i in range(3)})

    one.take_capabilities(capabilities(offer("m", max_concurrent=1), slots=2))

    assert (one.free_slots, one.free_slots_for("m")) == (0, 0)


def test_a_full_provider_is_believed_until_it_says_something_new() -> None:
    """It knows better than we do: another coordinator may use it."""
    one = provider()
    one.take_capabilities(capabilities(offer("m"), offer("n")))
    one.full_for.add("m")
    assert (one.free_slots_for("m"), one.free_slots_for("n")) == (0, 8)

    one.take_capabilities(capabilities(offer("m"), slots=4))
    assert one.free_slots_for("m") == 4
    one.full_for.add("m")

    one.take_heartbeat(Heartbeat(queue_depth=0))

    assert one.free_slots_for("m") == 4


def test_a_draining_provider_has_no_slots() -> None:
    """It says so in its heartbeat; a heartbeat that says nothing of it changes nothing (protocol 2)."""
    one = provider()

    one.take_heartbeat(Heartbeat(queue_depth=0, draining=True))
    one.take_heartbeat(Heartbeat(queue_depth=0))

    assert one.free_slots == 0


def test_a_model_that_is_listed_twice_is_taken_once() -> None:
    """The second entry is rejected with its reason, the first one serves."""
    one = Provider("a", RecordingSession())

    rejected = one.take_capabilities(capabilities(offer("m", max_concurrent=1), offer("m", max_concurrent=9)))

    assert [each.model_id for each in rejected] == ["m"]
    assert one.offers["m"].max_concurrent == 1


def test_a_model_that_could_not_be_read_is_rejected_and_the_others_serve() -> None:
    """With the reason that the codec found."""
    one = Provider("a", RecordingSession())
    unreadable = UnreadableOffer(model_id="big", reason="models[0].context_window: Expected `int` >= 0")

    rejected = one.take_capabilities(capabilities(unreadable, offer("m")))

    assert rejected == (RejectedModel(model_id="big", reason=unreadable.reason),)
    assert list(one.offers) == ["m"]


def test_new_capabilities_replace_the_old() -> None:
    """An empty list of models is legal."""
    one = provider()

    one.take_capabilities(capabilities())

    assert one.offers == {}


def test_a_provider_without_a_name_goes_by_that_of_its_code_or_by_its_id() -> None:
    """There is always something to call it by in `X-Agent`."""
    one = Provider("p-1", RecordingSession())

    assert one.name == "p-1"

    one.given_name = "den"
    one.take_capabilities(capabilities())
    assert one.name == "den"

    one.take_capabilities(capabilities(name="den-4090"))

    assert one.name == "den-4090"


def test_the_repr_states_the_condition() -> None:
    """So that logs and failing tests need nothing more."""
    one = provider()
    one.jobs["j"] = Slot("m")

    assert repr(one) == "<Provider den, present, 1 of 4 slots, ['m']>"
    one.session = None
    assert repr(one) == "<Provider den, away, 1 of 4 slots, ['m']>"


def test_each_seat_has_a_stream_id_of_its_own() -> None:
    """Which is free again with the seat, and not given again for a long time."""
    one = provider()

    first, second = one.seat("j", "m"), one.seat("k", "m")
    assert (first.stream_id, second.stream_id) == (0, 1)
    assert one.free("j")
    assert not one.free("j")

    assert one.streams == {1: "k"}
    assert one.seat("l", "m").stream_id == 2


def test_stream_ids_begin_anew_after_the_last_one() -> None:
    """They have 32 bits on the wire."""
    one = provider()
    one.next_stream_id = STREAM_IDS - 1

    assert [one.seat(job_id, "m").stream_id for job_id in "jk"] == [STREAM_IDS - 1, 0]


def test_a_later_session_follows_with_all_that_there_was() -> None:
    """Slots, streams, what is on offer; nothing is left with the older one."""
    older, newer = provider(), Provider("a", RecordingSession("s2"))
    older.seat("j", "m")

    newer.follow(older)

    assert (newer.name, list(newer.offers), list(newer.jobs), newer.streams) == (
        "den",
        ["m"],
        ["j"],
        {0: "j"},
    )
    assert (older.jobs, older.streams) == ({}, {})
    assert newer.seat("k", "m").stream_id == 1


def test_who_is_away_or_has_not_said_what_it_serves_has_no_slots() -> None:
    """Nothing can be sent there."""
    away, unheard = provider(), Provider("a", RecordingSession())
    away.session = None
    unheard.remember(away)

    assert (away.free_slots, unheard.free_slots, unheard.max_jobs) == (0, 0, 4)


@given(st.text())
def test_a_name_never_breaks_a_header(text: str) -> None:
    """A peer's own words are printable ASCII before they get anywhere."""
    plain = plain_text(text)

    assert len(plain) <= 64
    assert all(" " <= each <= "~" for each in plain)


def test_the_fleet_lists_each_model_once_with_all_its_offers() -> None:
    """Sorted, whoever came first."""
    fleet = Fleet()
    for provider_id, models in (("a", ("n", "m")), ("b", ("m",))):
        one = Provider(provider_id, RecordingSession())
        one.take_capabilities(capabilities(*(offer(model) for model in models)))
        fleet.add(one)

    assert [(model_id, len(offers)) for model_id, offers in fleet.models.items()] == [("m", 2), ("n", 1)]


def test_the_fleet_knows_who_has_a_model() -> None:
    """Also when that changes, and when somebody goes or takes the place of an older session."""
    fleet, one, two = Fleet(), provider("a"), provider("b")
    fleet.add(one)
    fleet.add(two)
    assert list(fleet.having("m")) == [one, two]

    fleet.take_capabilities(one, capabilities(offer("n")))
    assert (list(fleet.having("m")), list(fleet.having("n"))) == ([two], [one])

    newer = provider("b")
    fleet.add(newer)
    assert list(fleet.having("m")) == [newer]
    fleet.remove(newer)
    assert (list(fleet.having("m")), list(fleet.models)) == ([], ["n"])


def test_who_is_away_is_listed_until_it_is_gone_or_back() -> None:
    """With its models."""
    fleet, one = Fleet(), provider("a")
    fleet.add(one)

    fleet.send_away(one)
    assert (fleet.away, one.session, list(fleet.models)) == ({"a": one}, None, ["m"])

    fleet.add(provider("a"))
    assert fleet.away == {}


def test_a_model_is_gone_once_nobody_offers_it_any_more() -> None:
    """Whether the last agent that had it has left, or offers it no more; not once somebody has it again."""
    fleet, one, two = Fleet(clock=ManualClock()), provider("a"), provider("b")
    fleet.add(one)
    fleet.add(two)
    fleet.take_capabilities(one, capabilities())
    assert fleet.back_within_s("m") is None

    fleet.remove(two)
    assert fleet.back_within_s("m") == RETURN_S

    fleet.take_capabilities(one, capabilities(offer("m")))
    assert fleet.back_within_s("m") is None
    fleet.take_capabilities(one, capabilities(offer("n")))
    assert (fleet.back_within_s("m"), fleet.back_within_s("x")) == (RETURN_S, None)


def test_an_agent_that_says_anew_what_it_offers_makes_nobody_forget_what_is_gone() -> None:
    """Its own models were not gone meanwhile, however many they are; nor when it comes back."""
    fleet, one, large = Fleet(clock=ManualClock()), provider("a"), provider("b")
    for each in (one, large):
        fleet.add(each)
    many = capabilities(*(offer(str(i)) for i in range(MOST)))
    fleet.take_capabilities(large, many)
    fleet.take_capabilities(one, capabilities())
    fleet.remove(one)
    fleet.take_capabilities(large, capabilities(*many.models[1:], offer("m")))
    fleet.take_capabilities(large, many)
    assert fleet.back_within_s("m") == RETURN_S

    fleet.take_capabilities(large, many)
    again = provider("b")
    again.remember(large)
    fleet.add(again)

    assert (fleet.back_within_s("m"), fleet.back_within_s("1")) == (RETURN_S, None)


def test_an_older_session_cannot_remove_the_newer_one() -> None:
    """Both have the same id, and the older one ends later."""
    fleet, older, newer = Fleet(), provider("a"), provider("a")
    fleet.add(older)
    fleet.add(newer)

    assert not fleet.remove(older)
    assert newer is fleet.get("a")
    assert fleet.remove(newer)
    assert fleet.providers == ()


def test_features_of_several_offers_are_those_that_all_have_who_tell() -> None:
    """Whoever gets the job can do it; None where nobody tells, which is not the same as nothing."""
    two = [offer("m", features=each) for each in (("vision", "tools"), ("tools",))]

    assert features_of([*two, offer("m")]) == ("tools",)
    assert features_of([offer("m")]) is None
    assert features_of([offer("m", features=())]) == ()


def test_endpoints_of_several_offers_are_named_once() -> None:
    """In a fixed order."""
    offers = [offer("m", endpoints=(EMBEDDINGS,)), offer("m", endpoints=(CHAT, EMBEDDINGS))]

    assert endpoints_of(offers) == (CHAT, EMBEDDINGS)
