"""Who is behind an address."""

import json
from itertools import combinations

import pytest

from provider_agent.backends.base import AuthRejected
from provider_agent.backends.families import FAMILIES, identify, recognise
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import Answers
from tests.fakes import engine_pages
from tests.fakes.engine import Act, FakeEngine, json_answer


async def family_of(engine: FakeEngine, *, only_local: bool = False) -> str | None:
    async with engine, EngineHttp() as http:
        family = await identify(http, engine.url, timeout_s=5, only_local=only_local)
    return family.kind if family else None


@pytest.mark.parametrize("kind", sorted(FAMILIES))
async def test_each_family_is_told_by_its_answers(kind: str) -> None:
    """Several share ports 8000 and 8080."""
    assert await family_of(engine_pages.FamilyEngine(engine_pages.FAMILIES[kind]())) == kind


@pytest.mark.parametrize("status", [401, 403])
async def test_whoever_tells_nothing_without_a_key_is_not_called_nobody(status: int) -> None:
    """The operator learns what is missing (field note 79)."""
    pages = {"/v1/models": json_answer({"error": "Unauthorized"}, status)}

    with pytest.raises(AuthRejected, match="API key; set api_key_env"):
        await family_of(engine_pages.FamilyEngine(pages))


async def test_an_engine_without_openais_listing_is_recognised() -> None:
    """Ollama from before it had one, and stand-ins for it."""
    pages = {"/api/tags": json_answer({"models": []})}

    assert await family_of(engine_pages.FamilyEngine(pages)) == "ollama"


@pytest.mark.parametrize(
    ("path", "member", "kind"), [("/v1/models", "data", "openai"), ("/api/tags", "models", "ollama")]
)
async def test_one_odd_model_hides_no_engine(path: str, member: str, kind: str) -> None:
    """Null, without a name, with one that is too long: the others are still there."""
    models = [None, {}, {"id": "n" * 600}, {"id": "a", "name": "a", "details": {}}]
    pages = {path: json_answer({"object": "list", member: models})}

    assert await family_of(engine_pages.FamilyEngine(pages)) == kind


@pytest.mark.parametrize(("kind", "path"), [("ollama", "/v1/models"), ("lmstudio", "/api/v0/models")])
async def test_one_odd_model_changes_nobody(kind: str, path: str) -> None:
    """An engine would lose its own endpoints, and tell other slots, because of a model without details."""
    pages = dict(engine_pages.FAMILIES[kind]())
    listed = json.loads(b"".join(step for step in pages[path].steps if isinstance(step, bytes)))
    pages[path] = json_answer({**listed, "data": [{"id": "odd"}, *listed["data"]]})

    assert await family_of(engine_pages.FamilyEngine(pages)) == kind


@pytest.mark.parametrize("kind", ["koboldcpp", "localai", "docker"])
async def test_an_imitation_of_ollama_is_not_taken_for_it(kind: str) -> None:
    """They list like Ollama, but do not have all of its endpoints."""
    pages = engine_pages.FAMILIES[kind]()

    assert "/api/tags" in pages
    assert await family_of(engine_pages.FamilyEngine(pages)) == kind


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_no_engine_is_taken_for_another_in_whatever_order_they_are_asked(kind: str) -> None:
    """Each is known to its own family only; what nobody knows is a general one."""
    answers = engine_pages.answers_of(engine_pages.FAMILIES[kind]())

    knowing = [name for name, family in FAMILIES.items() if family.recognises(answers) and name != "openai"]
    assert knowing == ([] if kind == "openai" else [kind])


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_an_engine_of_which_less_is_seen_is_still_no_other(kind: str) -> None:
    """Closed pages, or a slow one, make it a general engine at worst."""
    pages = engine_pages.FAMILIES[kind]()
    rest = sorted(pages.keys() - {"/v1/models"})
    for seen in (each for count in range(len(rest) + 1) for each in combinations(rest, count)):
        answers = engine_pages.answers_of({path: pages[path] for path in ("/v1/models", *seen)})
        family = recognise(answers)

        assert family is None or family.kind in (kind, "openai")


def test_who_could_be_two_is_neither() -> None:
    """A proxy in front of several engines, say: it has what OpenAI's API has, and perhaps no more."""
    pages = {**engine_pages.tgi(), **engine_pages.lmstudio()}
    family = recognise(engine_pages.answers_of(pages))

    assert family is not None
    assert family.kind == "openai"


async def test_an_engine_that_names_itself_in_its_listing_is_asked_no_more() -> None:
    """Every question is a line in its log, every 30 s."""
    engine = engine_pages.FamilyEngine(engine_pages.vllm())

    assert await family_of(engine) == "vllm"
    assert [request.path for request in engine.requests] == ["/v1/models"]


async def test_llamacpp_that_wants_a_key_is_recognised() -> None:
    """By its Server header; with the wrong key its listing is 401."""
    pages = {"/v1/models": json_answer({}, 401, headers={"Server": "llama.cpp"})}

    assert await family_of(engine_pages.FamilyEngine(pages)) == "llamacpp"


async def test_localai_and_jan_that_want_a_key_are_recognised() -> None:
    """By the pages that they show to everybody."""
    for kind in ("localai", "jan"):
        pages = dict(engine_pages.FAMILIES[kind]())
        pages["/v1/models"] = json_answer({}, 401)

        assert await family_of(engine_pages.FamilyEngine(pages)) == kind


async def test_a_list_with_prices_is_never_found_by_itself() -> None:
    """Field note 23: a proxy on this machine may resell, too."""
    assert await family_of(engine_pages.FamilyEngine(engine_pages.remote()), only_local=True) is None


@pytest.mark.parametrize(("before", "kind"), [("tgi", "tgi"), (None, "openai")])
async def test_a_page_that_does_not_come_in_time_changes_nobody(before: str | None, kind: str) -> None:
    """Else a busy engine would lose its name, its slots and its endpoints for a while."""
    pages = {**engine_pages.tgi(), "/info": json_answer({}, before_headers=Act.SILENCE)}
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        family = await identify(http, engine.url, timeout_s=0.2, before=before)

    assert family is FAMILIES[kind]


async def test_a_page_that_is_gone_changes_who_is_there() -> None:
    """Another engine has taken the port."""
    async with engine_pages.FamilyEngine(engine_pages.openai()) as engine, EngineHttp() as http:
        family = await identify(http, engine.url, timeout_s=5, before="tgi")

    assert family is FAMILIES["openai"]


async def test_nobody_is_nobody() -> None:
    """A closed port."""
    async with FakeEngine() as gone:
        pass
    async with EngineHttp() as http:
        assert await identify(http, gone.url, timeout_s=5) is None


@pytest.mark.parametrize("only_local", [True, False])
async def test_a_coordinator_of_ours_is_no_engine(only_local: bool) -> None:
    """Its jobs would come back to it in a circle."""
    engine = FakeEngine(owned_by="provider-agent")

    assert await family_of(engine, only_local=only_local) is None


@pytest.mark.parametrize(("only_local", "kind"), [(True, None), (False, "remote")])
async def test_a_gateway_to_paid_engines_is_never_found_by_itself(only_local: bool, kind: str | None) -> None:
    """Field note 23: only if the operator names it."""
    assert await family_of(FakeEngine(owned_by="openai"), only_local=only_local) == kind


def test_nothing_said_is_nobody_recognised() -> None:
    """A web server with a page."""
    assert recognise(Answers(Page(200, {}, b"<html>"))) is None
