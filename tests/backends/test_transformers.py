"""What `transformers serve` tells; the rest is in the contract of all adapters."""

from dataclasses import replace

import pytest

from provider_agent.backends.base import BackendFailed, BackendSettings, Call
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.transformers import TransformersBackend
from tests.fakes import engine_pages
from tests.fakes.engine import Answer, chat_chunk, html, json_answer, sse
from tests.fakes.takers import whole

NO_LIST = Answer((b"Internal Server Error",), 500, "text/plain; charset=utf-8")


async def test_it_serves_what_its_description_has() -> None:
    """Newer ones have completions, too."""
    newer = engine_pages.openapi("/v1/chat/completions", "/v1/completions", "/load_model", "/reset")
    (model,) = await engine_pages.models_of("transformers", engine_pages.transformers())
    (more,) = await engine_pages.models_of(
        "transformers", {**engine_pages.transformers(), "/openapi.json": newer}
    )

    assert model.endpoints == {"/v1/chat/completions", "/v1/responses"}
    assert more.endpoints == {"/v1/chat/completions", "/v1/completions"}


async def test_it_does_not_say_what_is_in_memory() -> None:
    """Its list is what is on disk."""
    (model,) = await engine_pages.models_of("transformers", engine_pages.transformers())

    assert (model.is_loaded, model.max_concurrent) == (None, None)


async def test_a_model_that_is_called_by_its_whole_name_is_served_though_it_is_not_listed() -> None:
    """A model in a folder is never in its list; a pattern names nothing."""
    pages = engine_pages.transformers()
    models = await engine_pages.models_of("transformers", pages, models=("tiny", "./mine", "some/*"))

    assert [model.model_id for model in models] == ["./mine", "tiny"]
    assert models[0] == replace(models[1], model_id="./mine")


async def test_where_its_list_cannot_be_had_the_operators_names_stand_in() -> None:
    """Without a cache of Hugging Face it is 500, as 5.23 was seen to answer."""
    pages = {**engine_pages.transformers(), "/v1/models": NO_LIST}
    (model,) = await engine_pages.models_of("transformers", pages, models=("./mine",))

    assert model.model_id == "./mine"
    assert model.endpoints == {"/v1/chat/completions", "/v1/responses"}


async def test_without_list_and_names_the_operator_hears_what_to_do() -> None:
    """One sentence, in the log and of `validate`."""
    pages = {**engine_pages.transformers(), "/v1/models": NO_LIST}

    with pytest.raises(BackendFailed, match="name its models in full under `models`"):
        await engine_pages.models_of("transformers", pages)


@pytest.mark.parametrize("page", [json_answer({}, 404), json_answer({}, 502), html()])
async def test_names_stand_in_for_nothing_else(page: Answer) -> None:
    """Whoever answers so is another program, or none."""
    pages = {**engine_pages.transformers(), "/v1/models": page}

    with pytest.raises(BackendFailed):
        await engine_pages.models_of("transformers", pages, models=("./mine",))


async def test_one_answer_is_whole_though_the_client_wanted_two() -> None:
    """It ignores `n`, and ends without `[DONE]`: the second answer would be missed for ever."""
    answer = chat_chunk("Hi") + chat_chunk("", "stop")
    async with engine_pages.FamilyEngine(engine_pages.transformers()) as engine, EngineHttp() as http:
        engine.will_answer(sse(answer))
        backend = TransformersBackend(http, BackendSettings("transformers"), url=engine.url, name="x")
        call = Call("/v1/chat/completions", "tiny", b'{"n":2,"messages":[]}', True, 5, 5)
        async with backend.open(call) as reply:
            relayed = await whole(reply)

    assert relayed == answer
    assert "n" not in engine.posts[-1].json()
