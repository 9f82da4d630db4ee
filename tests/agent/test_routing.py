"""What is advertised is what executes, in the operator's order."""

import asyncio
import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.agent.routing import Policy, Refusal, Route, RoutingTable, with_room
from provider_agent.backends.base import BackendError, BackendModel, BackendSettings
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.backends.families import FAMILIES
from provider_agent.backends.http import Page
from provider_agent.protocol.codec import decode, encode
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.fields import LONGEST_NAME
from provider_agent.protocol.frames import (
    LEGACY_PROTOCOL,
    MAX_MESSAGE_BYTES,
    MOST_MODELS,
    PROTOCOL,
    Capabilities,
    Limits,
    Metadata,
)
from provider_agent.protocol.link import Role
from tests.fakes.backends import CHAT, ScriptedBackend
from tests.fakes.engine_pages import HttpOfPages

EMBEDDINGS = "/v1/embeddings"


def table(*backends: ScriptedBackend, policy: Policy | None = None) -> RoutingTable:
    entries = tuple(CatalogEntry(backend, backend.models, healthy=True) for backend in backends)
    return RoutingTable(Catalog(entries), policy or Policy())


def names(routes: Sequence[Route] | Refusal) -> list[str]:
    assert not isinstance(routes, Refusal)
    return [route.backend.name for route in routes]


def nothing_runs(_: Route) -> tuple[int, int]:
    return 0, 0


def test_a_model_is_routed_to_the_backend_that_lists_it() -> None:
    """The ordinary case: one backend, one model."""
    assert names(table(ScriptedBackend(name="a")).routes("m", CHAT)) == ["a"]


def test_the_offer_names_the_backend_that_will_execute() -> None:
    """What is advertised is what executes (field note 23)."""
    cheap, dear = ScriptedBackend(name="a", priority=1), ScriptedBackend(name="b", priority=2)
    cheap.kind, dear.kind = "llamacpp", "openai"
    offers = table(dear, cheap).offers

    assert [(offer.model_id, offer.backend) for offer in offers] == [("m", "llamacpp")]
    assert names(table(dear, cheap).routes("m", CHAT)) == ["a", "b"]


def test_a_hidden_model_cannot_be_executed_by_name() -> None:
    """Exposure is enforced at execution, not only in the listing (field note 24)."""
    hidden = table(ScriptedBackend(models=("public", "private")), policy=Policy(hide=("priv*",)))

    assert [offer.model_id for offer in hidden.offers] == ["public"]
    refusal = hidden.routes("private", CHAT)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.MODEL_NOT_LOADED


def test_only_what_the_allow_list_names_is_exposed() -> None:
    """`expose` is an allow-list of globs; `hide` wins over it."""
    policy = Policy(expose=("llama*",), hide=("*-base",))
    listed = table(ScriptedBackend(models=("llama3", "llama3-base", "qwen")), policy=policy).offers

    assert [offer.model_id for offer in listed] == ["llama3"]


def test_an_alias_runs_under_the_engines_own_name() -> None:
    """An alias is a second public name; the engine is asked under its own."""
    aliased = table(
        ScriptedBackend(models=("llama3.2:3b",)), policy=Policy(aliases={"llama3": "llama3.2:3b"})
    )
    routes = aliased.routes("llama3", CHAT)

    assert not isinstance(routes, Refusal)
    assert [route.model.model_id for route in routes] == ["llama3.2:3b"]
    assert [offer.model_id for offer in aliased.offers] == ["llama3", "llama3.2:3b"]


def test_an_alias_goes_before_a_model_of_that_name() -> None:
    """The operator says what is meant; no job runs on the other one, on no engine."""
    both = ScriptedBackend(name="both", models=("llama3", "llama3.2:3b"), max_concurrent=2)
    old = ScriptedBackend(name="old", models=("llama3",), max_concurrent=2)
    policy = Policy(expose=("llama3",), aliases={"llama3": "llama3.2:3b"})
    routed = table(both, old, policy=policy)
    (route,) = routed.routes("llama3", CHAT)  # type: ignore[misc]

    assert route.model.model_id == "llama3.2:3b"
    assert [offer.max_concurrent for offer in routed.offers] == [2]


def test_an_alias_of_a_model_to_itself_adds_no_second_way() -> None:
    """Else its slots would be offered twice."""
    backend = ScriptedBackend(max_concurrent=2)

    assert [o.max_concurrent for o in table(backend, policy=Policy(aliases={"m": "m"})).offers] == [2]


def test_a_glob_decides_over_public_names() -> None:
    """Hiding the engine's name leaves the alias in place."""
    policy = Policy(hide=("llama3.2:*",), aliases={"llama3": "llama3.2:3b"})
    offers = table(ScriptedBackend(models=("llama3.2:3b",)), policy=policy).offers

    assert [offer.model_id for offer in offers] == ["llama3"]


def test_an_endpoint_that_no_backend_offers_is_refused_as_such() -> None:
    """The model exists, the endpoint does not: a reason of its own."""
    refusal = table(ScriptedBackend()).routes("m", EMBEDDINGS)

    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.UNSUPPORTED_ENDPOINT


def test_an_embedding_model_is_offered_for_embeddings_only() -> None:
    """An engine may list every endpoint for every model; chat with an embedding model is no use."""
    backend = ScriptedBackend()
    backend.models = (BackendModel("m", frozenset({CHAT, EMBEDDINGS}), is_embedding=True),)

    assert [offer.endpoints for offer in table(backend).offers] == [(EMBEDDINGS,)]
    assert isinstance(table(backend).routes("m", CHAT), Refusal)


def test_offers_add_up_slots_but_never_beyond_the_agents_own() -> None:
    """Two backends with three slots each, an agent with four."""
    backends = [ScriptedBackend(name=name, max_concurrent=3) for name in "ab"]

    assert [o.max_concurrent for o in table(*backends, policy=Policy(max_concurrent=8)).offers] == [6]
    assert [o.max_concurrent for o in table(*backends, policy=Policy(max_concurrent=4)).offers] == [4]


def test_an_engine_that_keeps_failing_offers_no_slots_and_stays_on_the_list() -> None:
    """Jobs wait for it, or go elsewhere; nobody is told that the model does not exist."""
    backends = [ScriptedBackend(name=name, max_concurrent=3) for name in "ab"]
    catalog = Catalog(tuple(CatalogEntry(each, each.models, healthy=True) for each in backends))

    one = RoutingTable(catalog, Policy(), open_keys={("a", "m")})
    both = RoutingTable(catalog, Policy(), open_keys={("a", "m"), ("b", "m")})

    assert [offer.max_concurrent for offer in (*one.offers, *both.offers)] == [3, 0]
    assert names(both.routes("m", CHAT)) == ["a", "b"]


def test_engines_that_call_one_model_differently_share_one_name() -> None:
    """By an alias of the one that has the odd name; each is asked by its own name (field note 72)."""
    ollama = ScriptedBackend(name="a", models=("llama3.2:3b",))
    vllm = ScriptedBackend(name="b", models=("org/Llama", "n"), aliases={"llama3.2:3b": "org/Llama"})
    both = table(ollama, vllm)
    routes = both.routes("llama3.2:3b", CHAT)

    assert isinstance(routes, tuple)
    assert {(route.backend.name, route.model.model_id) for route in routes} == {
        ("a", "llama3.2:3b"),
        ("b", "org/Llama"),
    }
    assert [offer.model_id for offer in both.offers] == ["llama3.2:3b", "n", "org/Llama"]


def test_an_engines_own_alias_goes_before_those_of_all_engines() -> None:
    """There, and nowhere else."""
    one = ScriptedBackend(name="a", models=("x", "y"))
    other = ScriptedBackend(name="b", models=("x", "y"), aliases={"best": "y"})
    routes = table(one, other, policy=Policy(aliases={"best": "x"})).routes("best", CHAT)

    assert isinstance(routes, tuple)
    assert {(route.backend.name, route.model.model_id) for route in routes} == {("a", "x"), ("b", "y")}


def test_a_limit_on_an_engines_name_holds_for_the_alias_that_brings_it_in() -> None:
    """Whoever asks by the public name uses that model, too."""
    backend = ScriptedBackend(models=("org/Llama-70B",), aliases={"best": "org/Llama-70B"}, max_concurrent=8)
    limited = table(backend, policy=Policy(limits={"*70B": 1}))

    assert {offer.model_id: offer.max_concurrent for offer in limited.offers} == {
        "best": 1,
        "org/Llama-70B": 1,
    }
    assert limited.is_at_limit("org/Llama-70B", [("best", "org/Llama-70B")])


def test_a_job_counts_against_its_limit_when_its_engine_has_gone() -> None:
    """It still runs, whatever is on offer by now."""
    limited = table(ScriptedBackend(models=("other:70b",)), policy=Policy(limits={"*:70b": 1}))

    assert limited.is_at_limit("other:70b", [("best", "big:70b")])
    assert not limited.is_at_limit("other:70b", [("best", "big:7b")])


def test_an_engine_that_stands_by_has_no_jobs_while_another_one_has_the_model() -> None:
    """Not when that one is busy, either; its other models are its own."""
    own = ScriptedBackend(name="own", models=("m",), max_concurrent=2)
    paid = ScriptedBackend(name="paid", models=("m", "n"), max_concurrent=8, standby=True)
    both = table(paid, own)

    assert names(both.routes("m", CHAT)) == ["own"]
    assert [(offer.model_id, offer.max_concurrent) for offer in both.offers] == [("m", 2), ("n", 8)]
    assert names(table(paid).routes("m", CHAT)) == ["paid"]


def test_an_engine_that_stands_by_has_jobs_while_the_others_keep_failing() -> None:
    """All of them: those that still do are asked first again when they are well."""
    own = ScriptedBackend(name="own", priority=1)
    paid = ScriptedBackend(name="paid", max_concurrent=8, priority=2, standby=True)
    catalog = Catalog(tuple(CatalogEntry(each, each.models, healthy=True) for each in (own, paid)))

    failing = RoutingTable(catalog, Policy(), open_keys={("own", "m")})

    assert names(failing.routes("m", CHAT)) == ["own", "paid"]
    assert failing.offers[0].max_concurrent == 8


def test_an_engine_that_stands_by_has_jobs_until_one_of_the_others_has_answered_again() -> None:
    """One that may be tried again takes a single job, which may hang there for minutes."""
    own = ScriptedBackend(name="own", max_concurrent=2)
    paid = ScriptedBackend(name="paid", max_concurrent=8, priority=1, standby=True)
    catalog = Catalog(tuple(CatalogEntry(each, each.models, healthy=True) for each in (own, paid)))

    tried_again = RoutingTable(catalog, Policy(), unproven_keys={("own", "m")})

    assert set(names(tried_again.routes("m", CHAT))) == {"own", "paid"}
    assert tried_again.offers[0].max_concurrent == 8


def test_an_engine_that_stands_by_comes_after_all_others() -> None:
    """Whatever its priority: else one that failed would never be tried again."""
    own = ScriptedBackend(name="own", max_concurrent=2)
    paid = ScriptedBackend(name="paid", max_concurrent=8, priority=1, standby=True)
    ways = [Route(each, each.models[0]) for each in (paid, own)]

    assert names(with_room(ways, nothing_runs, untold=8)) == ["own", "paid"]


def test_an_offer_of_several_engines_promises_what_each_of_them_keeps() -> None:
    """The smallest window; kind and fingerprint are those of the engine that is asked first."""
    first, second = ScriptedBackend(name="a", priority=1), ScriptedBackend(name="b", priority=2)
    first.models = (BackendModel("m", frozenset({CHAT}), context_window=8192, fingerprint="sha256:a"),)
    second.models = (BackendModel("m", frozenset({CHAT}), context_window=4096, fingerprint="sha256:b"),)
    first.kind = "vllm"

    (offer,) = table(second, first).offers

    assert (offer.context_window, offer.fingerprint, offer.backend) == (4096, "sha256:a", "vllm")


def test_an_offer_promises_what_all_its_engines_can_do() -> None:
    """Those that tell; none that tells is not the same as nothing."""
    first, second, silent = (ScriptedBackend(name=name) for name in "abc")
    for backend, features in ((first, {"tools", "vision"}), (second, {"tools"})):
        backend.models = (BackendModel("m", frozenset({CHAT}), features=frozenset(features)),)

    assert table(first, second, silent).offers[0].features == ("tools",)
    assert table(silent).offers[0].features is None


def test_the_operators_limit_on_a_model_is_what_is_offered() -> None:
    """However many slots its engines have."""
    backend = ScriptedBackend(models=("big:70b", "small:1b"), max_concurrent=4)
    offers = table(backend, policy=Policy(limits={"*:70b": 1, "b*": 2})).offers

    assert {offer.model_id: offer.max_concurrent for offer in offers} == {"big:70b": 1, "small:1b": 4}


def test_a_price_of_its_own_wins_over_the_default() -> None:
    """Prices are integers per million tokens."""
    policy = Policy(price_of=lambda name: (5, 7) if name == "m" else (1, 2))
    offers = table(ScriptedBackend(models=("m", "n")), policy=policy).offers

    assert [(o.input_per_1m, o.output_per_1m) for o in offers] == [(5, 7), (1, 2)]


def test_the_fingerprint_changes_only_with_the_offers() -> None:
    """A coordinator sees at a glance whether anything changed."""
    same, other = table(ScriptedBackend()), table(ScriptedBackend(models=("n",)))

    assert table(ScriptedBackend()).fingerprint == same.fingerprint
    assert other.fingerprint != same.fingerprint


def test_no_more_is_offered_than_a_message_can_hold() -> None:
    """The agent would lose its session over the list; what is not offered is not executed either."""
    many = table(ScriptedBackend(models=tuple(f"m{number:05}" for number in range(MOST_MODELS + 2))))

    assert (len(many), len(many.offers), many.left_out) == (MOST_MODELS, MOST_MODELS, 2)
    assert names(many.routes("m09999", CHAT)) == ["scripted"]
    assert isinstance(many.routes("m10000", CHAT), Refusal)


def test_the_longest_offer_fits_a_message() -> None:
    """Ten thousand of the longest names and fingerprints, each character as long as they get."""
    longest = "\U0001d11e" * LONGEST_NAME
    model = BackendModel(longest, frozenset({CHAT, EMBEDDINGS}), 2**53, 2**53, f"sha256:{longest}")
    backend = ScriptedBackend()
    backend.models = (model,)
    (offer,) = table(backend).offers

    assert len(msgspec.json.encode(offer)) * MOST_MODELS < MAX_MESSAGE_BYTES


_ODD: st.SearchStrategy[object] = st.sampled_from(
    ["a", "b/c:7b", "x" * 513, "", "\ud800", "a\x00", "é", 2**60, -1, True, None, [], 4096]
)
_LISTED = st.dictionaries(
    st.sampled_from(["id", "name", "max_model_len", "context_length", "meta", "digest", "details"]), _ODD
)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@given(st.lists(_LISTED | _ODD, max_size=5), st.sampled_from(["data", "models"]))
@settings(max_examples=50)
def test_whatever_an_engine_lists_the_capabilities_can_be_read(
    kind: str, listed: list[object], member: str
) -> None:
    """Our encoder never writes what our decoder refuses: one odd model would cost the whole session."""
    pages = [Page(200, {}, json.dumps({member: listed}).encode())] * 3
    backend = FAMILIES[kind](HttpOfPages(*pages), BackendSettings(kind), url="http://x:1", name="x")
    try:
        models = asyncio.run(backend.list_models())
    except BackendError:
        models = ()
    offers = RoutingTable(Catalog((CatalogEntry(backend, models, healthy=True),)), Policy()).offers
    frame = Capabilities(
        models=offers, limits=Limits(max_concurrent_total=1), metadata=Metadata(agent_version="1")
    )

    for protocol in (PROTOCOL, LEGACY_PROTOCOL):
        message = encode(frame, protocol)
        assert message is not None
        read = decode(message, Role.AGENT)
        assert isinstance(read, Capabilities)
        assert [offer.model_id for offer in read.models] == [offer.model_id for offer in offers]


def test_the_least_loaded_of_equal_backends_comes_first() -> None:
    """Two engines with one model share the load (field note 25)."""
    a, b = ScriptedBackend(name="a", max_concurrent=4), ScriptedBackend(name="b", max_concurrent=4)
    routes = table(a, b).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda route: (2, 2) if route.backend is a else (1, 1), untold=8)) == [
        "b",
        "a",
    ]


@pytest.mark.parametrize("whose", ["backend", "model"])
def test_load_is_what_part_of_its_slots_an_engine_has_taken(whose: str) -> None:
    """Four of sixteen are less than two of four, whoever says how many there are (field note 71)."""
    large, small = ScriptedBackend(name="large"), ScriptedBackend(name="small")
    for backend, slots in ((large, 16), (small, 4)):
        if whose == "backend":
            backend.max_concurrent = slots
        else:
            backend.models = (BackendModel("m", frozenset({CHAT}), max_concurrent=slots),)
    routes = table(small, large).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    found = with_room(routes, lambda route: (4, 4) if route.backend is large else (2, 2), untold=8)

    assert names(found) == ["large", "small"]


def test_priority_goes_before_load() -> None:
    """The operator's order is kept while there is room."""
    a = ScriptedBackend(name="a", max_concurrent=4, priority=1)
    b = ScriptedBackend(name="b", max_concurrent=4, priority=2)
    routes = table(b, a).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda route: (3, 3) if route.backend is a else (0, 0), untold=8)) == [
        "a",
        "b",
    ]


def loaded(
    name: str, is_loaded: bool | None, *, priority: int = 100, max_concurrent: int | None = None
) -> ScriptedBackend:
    backend = ScriptedBackend(name=name, priority=priority, max_concurrent=max_concurrent)
    backend.models = (BackendModel("m", frozenset({CHAT}), is_loaded=is_loaded),)
    return backend


@pytest.mark.parametrize("warm", [True, None])
def test_warmth_goes_before_load(warm: bool | None) -> None:
    """Field note 72: a cold engine that is idle answers in minutes, a busy one in seconds."""
    cold, other = loaded("cold", False), loaded("other", warm, max_concurrent=4)
    routes = table(cold, other).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda route: (3, 3) if route.backend is other else (0, 0), untold=8)) == [
        "other",
        "cold",
    ]


def test_a_cold_engine_gets_the_job_when_the_warm_one_is_full() -> None:
    """It is loaded then, and shares the load from the next look on."""
    cold, warm = loaded("cold", False), loaded("warm", True, max_concurrent=4)
    routes = table(cold, warm).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda route: (4, 4) if route.backend is warm else (0, 0), untold=8)) == [
        "cold"
    ]


def test_priority_goes_before_warmth() -> None:
    """The operator's order is not for an engine to change."""
    first, second = loaded("first", False, priority=1), loaded("second", True, priority=2)
    routes = table(second, first).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, nothing_runs, untold=8)) == ["first", "second"]


@pytest.mark.parametrize(
    ("said", "warm"),
    [
        ([True], True),
        ([False], False),
        ([None], None),
        ([False, None, True], True),
        ([None, False], False),
        ([None, None], None),
    ],
)
def test_a_model_is_warm_where_one_engine_has_it_in_memory(
    said: list[bool | None], warm: bool | None
) -> None:
    """That one gets the next job; so a coordinator may prefer this agent."""
    (offer,) = table(*(loaded(f"e{number}", each) for number, each in enumerate(said))).offers

    assert offer.warm is warm


def test_a_warm_engine_that_takes_no_job_now_warms_no_offer() -> None:
    """The job would go to the other one."""
    entries = [
        CatalogEntry(each, each.models, healthy=True) for each in (loaded("a", True), loaded("b", False))
    ]
    (offer,) = RoutingTable(Catalog(tuple(entries)), Policy(), open_keys={("a", "m")}).offers

    assert offer.warm is False


def test_an_offer_that_became_warm_is_another_one() -> None:
    """It is announced as any change is."""
    assert table(loaded("a", True)).fingerprint != table(loaded("a", False)).fingerprint


def test_routes_are_found_by_the_globs_of_public_names() -> None:
    """Each once, whatever its aliases; what is hidden is not found."""
    a, b = ScriptedBackend(name="a", models=["m", "n", "secret"]), ScriptedBackend(name="b", models=["m"])
    found = table(a, b, policy=Policy(aliases={"nice": "m"}, hide=("secret",))).routes_named

    assert [route.key for route in found(["nice", "m*"])] == [("a", "m"), ("b", "m")]
    assert [route.key for route in found(["*"])] == [("a", "m"), ("b", "m"), ("a", "n")]
    assert found(["secret"]) == found([]) == ()


def test_an_engine_that_tells_no_slots_does_not_take_nearly_all_jobs() -> None:
    """It is reckoned as if the agent were its alone, and so gets twice as many as one with half of that."""
    told, untold = ScriptedBackend(name="told", max_concurrent=4), ScriptedBackend(name="untold")
    routes = [Route(each, each.models[0]) for each in (told, untold)]
    counts = {"told": 0, "untold": 0}
    for _ in range(6):
        best = with_room(routes, lambda route: (counts[route.backend.name],) * 2, untold=8)[0]
        counts[best.backend.name] += 1

    assert counts == {"told": 2, "untold": 4}


def test_a_full_backend_is_left_out() -> None:
    """Its own limit counts, whatever the agent's is."""
    a, b = ScriptedBackend(name="a", max_concurrent=1), ScriptedBackend(name="b")
    routes = table(a, b).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda route: (1, 1) if route.backend is a else (9, 9), untold=8)) == ["b"]
    assert names(with_room(routes, nothing_runs, untold=8)) == ["a", "b"]


def test_a_model_with_fewer_slots_than_its_backend_is_full_first() -> None:
    """The engine's own slots for a model count, too."""
    backend = ScriptedBackend(max_concurrent=8)
    backend.models = (BackendModel("m", frozenset({CHAT}), max_concurrent=2),)
    routes = table(backend).routes("m", CHAT)
    assert not isinstance(routes, Refusal)

    assert names(with_room(routes, lambda _: (5, 1), untold=8)) == ["scripted"]
    assert with_room(routes, lambda _: (5, 2), untold=8) == ()
    assert [routes[0].has_room_for_all(jobs) for jobs in (1, 2)] == [True, False]
