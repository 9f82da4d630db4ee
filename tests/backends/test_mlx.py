"""What mlx_lm.server tells, and what must not reach it; the rest is in the contract of all adapters."""

import json
from typing import Any

import pytest

from provider_agent.backends.base import (
    BackendFailed,
    BackendModel,
    BackendSettings,
    BadRequest,
    Call,
    ModelNotFound,
)
from provider_agent.backends.families import identify
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.mlx import MlxBackend
from provider_agent.backends.request import CHAT, COMPLETIONS
from tests.fakes import engine_pages
from tests.fakes.engine import Answer, json_answer
from tests.fakes.takers import whole

SERVER = {"Server": "BaseHTTP/0.6 Python/3.11.7"}
NO_CACHE = json_answer(b"", headers=SERVER)
LATE_S = 5.0


async def asked(endpoint: str, body: Any, *answers: Answer) -> dict[str, Any]:
    """The body that reaches the engine."""
    pages = engine_pages.mlx()
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        engine.will_answer(*answers or [json_answer({"choices": [{"finish_reason": "stop"}]})])
        backend = MlxBackend(http, BackendSettings("mlx"), url=engine.url, name="x")
        call = Call(endpoint, "tiny", json.dumps(body).encode(), False, LATE_S, LATE_S)
        async with backend.open(call) as reply:
            await whole(reply)
        sent: dict[str, Any] = engine.posts[-1].json()
    return sent


async def test_what_a_client_has_it_load_beside_the_model_does_not_leave() -> None:
    """It loads each folder and repository that a request names; 0.32 was seen to look into `/etc`."""
    sent = await asked(CHAT, {"messages": [], "adapters": "/etc", "draft_model": "some/other"})

    assert sent == {"messages": [], "model": "tiny", "stream": False}


@pytest.mark.parametrize(
    ("endpoint", "name", "value"),
    [
        (COMPLETIONS, "prompt", ["a", "b"]),
        (COMPLETIONS, "prompt", ""),
        (COMPLETIONS, "prompt", [""]),
        (COMPLETIONS, "prompt", [5, 6]),
        (CHAT, "stop", 5),
        (CHAT, "stop", [5]),
        (CHAT, "logit_bias", {"99999999": 1}),
        (CHAT, "top_k", 100_000),
    ],
)
async def test_what_would_end_it_for_all_is_refused(endpoint: str, name: str, value: object) -> None:
    """Each of them was seen to end its thread, or its process; 404 to all jobs from then on."""
    with pytest.raises(BadRequest, match=f"no such `{name}`"):
        await asked(endpoint, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop", "a"),
        ("stop", ["a", "b"]),
        ("stop", None),
        ("logit_bias", {}),
        ("top_k", 40),
        ("prompt", "Hi"),
    ],
)
async def test_what_it_can_bear_reaches_it(name: str, value: object) -> None:
    """As the client wrote it."""
    assert (await asked(COMPLETIONS, {name: value}))[name] == value


async def test_one_prompt_in_a_list_is_a_prompt() -> None:
    """As some clients write each; the list would end its thread."""
    assert (await asked(COMPLETIONS, {"prompt": ["Hi"]}))["prompt"] == "Hi"


async def test_a_number_that_nobody_can_read_is_refused() -> None:
    """Python reads what our decoder does not."""
    async with EngineHttp() as http:
        backend = MlxBackend(http, BackendSettings("mlx"), url="http://127.0.0.1:9", name="x")
        call = Call(CHAT, "tiny", b'{"top_k": 1e999}', False, LATE_S, LATE_S)

        with pytest.raises(BadRequest):
            async with backend.open(call):
                pass


async def test_one_whose_thread_has_died_is_not_well() -> None:
    """It still lists its models; only `/health` tells."""
    pages = {**engine_pages.mlx(), "/health": json_answer({"status": "unavailable"}, 503)}

    with pytest.raises(BackendFailed, match="start it anew"):
        await engine_pages.models_of("mlx", pages)


async def test_a_job_that_finds_its_thread_dead_hears_of_a_broken_engine() -> None:
    """It says 404, as for a model that it has not got."""
    dead = json_answer({"error": "generation thread died"}, 404)
    with pytest.raises(BackendFailed, match="start it anew"):
        await asked(CHAT, {}, dead)
    with pytest.raises(ModelNotFound, match="no such repository"):
        await asked(CHAT, {}, json_answer({"error": "no such repository"}, 404))


async def test_without_a_cache_it_is_known_and_serves_what_the_operator_names() -> None:
    """Its list is then an empty answer, with 200; `--model ./mine` runs all the same."""
    pages = {**engine_pages.mlx(), "/v1/models": NO_CACHE}
    (model,) = await engine_pages.models_of("mlx", pages, models=("./mine",))

    assert model == BackendModel("./mine", frozenset({CHAT, COMPLETIONS}))
    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        assert await identify(http, engine.url, timeout_s=LATE_S) is MlxBackend
    with pytest.raises(BackendFailed, match="name its models in full"):
        await engine_pages.models_of("mlx", pages)


async def test_another_server_of_pythons_library_is_not_taken_for_it() -> None:
    """Whoever tells more of a model is somebody else."""
    pages = {
        "/v1/models": json_answer({"object": "list", "data": [{"id": "a", "owned_by": "me"}]}, headers=SERVER)
    }

    async with engine_pages.FamilyEngine(pages) as engine, EngineHttp() as http:
        family = await identify(http, engine.url, timeout_s=LATE_S)

    assert family is not None
    assert family.kind == "openai"
