"""Why an engine does not answer, or has nothing to offer, as the operator is told."""

import asyncio

from provider_agent.backends.base import AuthRejected, BackendModel, BackendSettings
from provider_agent.backends.discovery import Catalog, CatalogEntry, Discovery
from provider_agent.backends.http import EngineHttp
from provider_agent.cli.validate_engines import misnamed, troubles, unrecognised
from provider_agent.cli.validate_start import Problem
from tests.fakes.backends import ScriptedBackend
from tests.fakes.engine import Act, Answer, FakeEngine, html, json_answer
from tests.fakes.engine_pages import FamilyEngine, llamacpp, openai, transformers

NOBODY = "http://127.0.0.1:9"


async def problems(*settings: BackendSettings) -> list[Problem]:
    """Those of the engines that are really there."""
    async with asyncio.timeout(10), EngineHttp() as http:
        catalog = await Discovery(settings, http, probe_loopback=False).refresh()
        unknown = await unrecognised(settings, catalog, http)
        troubled = [each.problem for each in await troubles(catalog)]
        return [*troubled, *(each.problem for each in unknown), *await misnamed(settings, catalog, http)]


async def has_answered(url: str) -> bool:
    """Whether an engine of kind `auto` there is said to have answered."""
    settings = (BackendSettings("auto", url),)
    async with asyncio.timeout(10), EngineHttp() as http:
        (found,) = await unrecognised(settings, Catalog(()), http)
        return found.answers


async def problems_of(entry: CatalogEntry) -> list[Problem]:
    return [each.problem for each in await troubles(Catalog((entry,)))]


async def of_auto(page: Answer) -> Problem:
    """That of an engine of kind `auto` which answers every question about its models so."""
    async with FakeEngine() as engine:
        engine.pages["/v1/models"] = page
        (found,) = await problems(BackendSettings("auto", engine.url))
        assert found.about == f"engine {engine.url}"
        return found


async def test_an_engine_that_answers_has_no_problem() -> None:
    """It lists a model that may be used."""
    assert await problems_of(CatalogEntry(ScriptedBackend(), (BackendModel("m", frozenset()),), True)) == []


async def test_an_engine_that_does_not_listen_is_told_as_such() -> None:
    """By the name that the operator gave it."""
    (found,) = await problems(BackendSettings("vllm", NOBODY, name="den"))

    assert (found.level, found.about) == ("warning", "engine den")
    assert "does not accept connections; see whether it runs" in found.text


async def test_an_engine_of_unknown_family_does_not_vanish() -> None:
    """Nobody listens there, so that nobody could tell what it is."""
    (found,) = await problems(BackendSettings("auto", NOBODY))

    assert found.about == f"engine {NOBODY}"
    assert "does not accept connections" in found.text


async def test_an_engine_that_loads_is_told_as_such() -> None:
    """llama.cpp answers 503 to everything until it has its model: its address is right."""
    loading = json_answer({"error": {"message": "Loading model", "code": 503}}, 503)

    assert "is loading or busy" in (await of_auto(loading)).text


async def test_something_that_is_no_engine_is_told_as_such() -> None:
    """A web server that says yes to everything."""
    assert "is no engine that is known by its answers" in (await of_auto(html())).text


async def test_an_engine_that_is_known_and_cannot_list_its_models_says_why() -> None:
    """`transformers serve` without a cache: its address and its kind are right."""
    no_list = Answer((b"Internal Server Error",), 500, "text/plain")
    async with FamilyEngine({**transformers(), "/v1/models": no_list}) as engine:
        (found,) = await problems(BackendSettings("auto", engine.url))

    assert "name its models in full under `models`" in found.text


async def test_an_engine_that_wants_a_key_is_told_as_such() -> None:
    """What it is cannot be seen without."""
    found = await of_auto(json_answer({"error": "no"}, status=401))

    assert "wants a key; give it the right api_key_env" in found.text


async def test_one_whose_answer_breaks_off_has_answered() -> None:
    """Somebody is there; where nobody listens, nobody was there to be recognised."""
    async with FakeEngine() as engine:
        engine.pages["/v1/models"] = Answer((b"{", Act.RESET), 200)

        assert await has_answered(engine.url)
    assert not await has_answered(NOBODY)


async def test_what_the_engine_says_is_the_reason() -> None:
    """It was asked once more for that."""

    class Locked(ScriptedBackend):
        async def list_models(self) -> tuple[BackendModel, ...]:
            raise AuthRejected("the engine does not accept this agent's credentials", http_status=401)

    (found,) = await problems_of(CatalogEntry(Locked(), (), healthy=False))

    assert found.text == (
        "the engine does not accept this agent's credentials; give it the right api_key_env or api_key_file"
    )


async def test_an_engine_that_is_there_and_fails_has_answered() -> None:
    """Its operator need not look for a program that does not run."""
    async with asyncio.timeout(10), FakeEngine() as engine, EngineHttp() as http:
        settings = [BackendSettings("vllm", engine.url), BackendSettings("vllm", NOBODY)]
        engine.pages["/v1/models"] = json_answer({"error": "no"}, status=500)
        catalog = await Discovery(settings, http, probe_loopback=False).refresh()
        found = await troubles(catalog)

    assert {each.backend.url: each.answers for each in found} == {engine.url: True, NOBODY: False}


async def test_an_engine_without_a_list_of_models_may_be_at_another_address() -> None:
    """Such as one below a folder, which the address left out."""
    async with FakeEngine() as engine:
        engine.pages["/v1/models"] = json_answer({}, status=404)
        (found,) = await problems(BackendSettings("remote", engine.url))

    assert found.text == (
        "what answers there has no list of models where an engine of kind remote has it (404); "
        "correct its url or its kind"
    )


async def test_an_engine_of_another_kind_than_the_settings_say_is_told() -> None:
    """It works in part: with other slots and endpoints than it has."""
    async with FamilyEngine(llamacpp()) as engine:
        (named,) = await problems(BackendSettings("vllm", engine.url, name="den"))
        (found,) = await problems(BackendSettings("vllm", engine.url))

    assert (named.level, named.about) == ("warning", "engine den")
    assert found.about.startswith("engine vllm-")
    assert found.text == 'it answers as llamacpp does, and not as vllm; correct its kind, or make it "auto"'


async def test_an_engine_that_nobody_knows_by_its_answers_is_what_the_settings_say() -> None:
    """A version that answers otherwise, or one behind a proxy; and who calls it openai may have reasons."""
    async with FamilyEngine(openai()) as unknown, FamilyEngine(llamacpp()) as known:
        assert await problems(BackendSettings("vllm", unknown.url)) == []
        assert await problems(BackendSettings("openai", known.url)) == []


async def test_an_engine_without_models_and_one_whose_models_are_left_out_differ() -> None:
    """One lacks a model, the other's settings are too strict."""
    (empty,) = await problems_of(CatalogEntry(ScriptedBackend(models=()), (), healthy=True))
    (strict,) = await problems_of(CatalogEntry(ScriptedBackend(), (), healthy=True))
    (late,) = await problems_of(CatalogEntry(ScriptedBackend(), (), healthy=False))

    assert "has no model" in empty.text
    assert "let none of its models through" in strict.text
    assert "does now" in late.text


async def test_a_defect_in_one_look_does_not_end_the_others() -> None:
    """The operator reads about it, and about the rest."""

    class Odd(ScriptedBackend):
        async def list_models(self) -> tuple[BackendModel, ...]:
            raise KeyError("surprise")

    (found,) = await problems_of(CatalogEntry(Odd(), (), healthy=False))

    assert "a defect of this program ended the look at it (KeyError)" in found.text
