"""Who is behind an address."""

import pytest

from provider_agent.backends.families import FAMILIES, identify, recognise
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import Answers
from tests.fakes import engine_pages
from tests.fakes.engine import FakeEngine, json_answer, models_page


async def family_of(engine: FakeEngine, *, only_local: bool = False) -> str | None:
    async with engine, EngineHttp() as http:
        family = await identify(http, engine.url, timeout_s=5, only_local=only_local)
    return family.kind if family else None


@pytest.mark.parametrize("kind", sorted(FAMILIES))
async def test_each_family_is_told_by_its_answers(kind: str) -> None:
    """Several share ports 8000 and 8080."""
    assert await family_of(engine_pages.FamilyEngine(engine_pages.FAMILIES[kind]())) == kind


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


async def test_an_imitation_of_ollama_is_not_taken_for_it() -> None:
    """KoboldCpp lists like Ollama, but has not all of its endpoints."""
    pages = {**engine_pages.ollama(), "/v1/models": models_page("koboldcpp/tiny", owned_by="koboldcpp")}

    assert await family_of(engine_pages.FamilyEngine(pages)) == "openai"


async def test_llamacpp_that_wants_a_key_is_recognised() -> None:
    """By its Server header; with the wrong key its listing is 401."""
    pages = {"/v1/models": json_answer({}, 401, headers={"Server": "llama.cpp"})}

    assert await family_of(engine_pages.FamilyEngine(pages)) == "llamacpp"


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


@pytest.mark.parametrize(("only_local", "kind"), [(True, None), (False, "openai")])
async def test_a_gateway_to_paid_engines_is_never_found_by_itself(only_local: bool, kind: str | None) -> None:
    """Field note 23: only if the operator names it."""
    assert await family_of(FakeEngine(owned_by="openai"), only_local=only_local) == kind


def test_nothing_said_is_nobody_recognised() -> None:
    """A web server with a page."""
    assert recognise(Answers(Page(200, {}, b"<html>"))) is None
