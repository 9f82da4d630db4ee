"""What an engine of no known family tells; the rest is in the contract of all adapters."""

import json

import pytest

from provider_agent.backends.base import BackendModel, BackendSettings
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from tests.fakes.engine import Answer, FakeEngine, json_answer, models_page
from tests.fakes.engine_pages import HttpOfPages
from tests.fakes.logs import LogLines


async def listed(page: Answer) -> list[BackendModel]:
    async with FakeEngine() as engine, EngineHttp() as http:
        engine.pages["/v1/models"] = page
        backend = OpenAIBackend(http, BackendSettings("openai"), url=engine.url, name="x")
        return list(await backend.list_models())


async def test_models_are_sorted_and_have_all_endpoints() -> None:
    """The order of the engine means nothing."""
    assert await listed(models_page("b", "a")) == [BackendModel("a", ENDPOINTS), BackendModel("b", ENDPOINTS)]


@pytest.mark.parametrize("name", ["max_model_len", "context_length", "context_window"])
async def test_the_context_is_known_by_many_names(name: str) -> None:
    """Each engine has its own."""
    assert (await listed(json_answer({"data": [{"id": "a", name: 4096}]})))[0].context_window == 4096


async def test_a_model_without_a_name_is_left_out() -> None:
    """It could not be asked for."""
    assert await listed(json_answer({"data": [{"id": ""}, {"name": "x"}, {"id": "a"}]})) == [
        BackendModel("a", ENDPOINTS)
    ]


async def test_the_operator_hears_once_of_a_model_that_is_left_out() -> None:
    """A look every half minute must not fill the log; what is new is told."""
    lines = LogLines()
    long, worse = "n" * 600, "\ud800"
    pages = [Page(200, {}, json.dumps({"data": [{"id": name} for name in names]}).encode())
             for names in (["a", long], ["a", long], ["a", long, worse])]  # fmt: skip
    backend = OpenAIBackend(HttpOfPages(*pages), BackendSettings("openai"), url="http://x:1", name="x")
    for _ in pages:
        assert await backend.list_models() == (BackendModel("a", ENDPOINTS),)

    told = [(line["backend"], line["model_id"]) for line in lines.named("model_left_out")]
    assert told == [("x", ascii(long)[:80]), ("x", r"'\ud800'")]


async def test_no_models_are_no_models() -> None:
    """LM Studio with nothing loaded."""
    assert await listed(json_answer({"object": "list", "data": []})) == []


async def test_a_loaded_model_that_lacks_the_endpoint_is_loaded_all_the_same() -> None:
    """The answer came from it: llama.cpp's router knows what a model can do only once it is loaded."""
    async with FakeEngine() as engine, EngineHttp() as http:
        engine.will_answer(json_answer({"error": {"message": "not supported"}}, 501))
        backend = OpenAIBackend(http, BackendSettings("openai"), url=engine.url, name="x")
        await backend.keep_warm(BackendModel("tiny", ENDPOINTS, is_loaded=False), within_s=5)

    assert len(engine.posts) == 1
