"""Engines that die, come back or lock us out: the client is told the truth, and the agent lives on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.engines.conftest import Line, StartAgent, client, data_of, error_in
from tests.engines.processes import LlamaServer, Program

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "An agent"}], "temperature": 0}


@pytest.fixture
def fragile(
    folder: Path, start_agent: StartAgent, request: pytest.FixtureRequest
) -> Iterator[tuple[LlamaServer, Program]]:
    """An engine that may be killed, behind an agent of its own; its model is named after the test."""
    server = LlamaServer(folder, request.node.name[5:40], model="slow")
    server.start()
    with start_agent(
        f"agent-of-{server.alias}", ("llamacpp", server.url, ""), models={server.alias}
    ) as agent:
        yield server, agent
    server.stop()


def ask(line: Line, model: str, **more: Any) -> httpx.Response:
    body = CHAT | {"model": model, "max_tokens": 8} | more
    return httpx.post(f"{line.url}/v1/chat/completions", json=body, timeout=30)


def long(model: str) -> dict[str, Any]:
    return CHAT | {"model": model, "stream": True, "max_tokens": 1500, "ignore_eos": True}


def test_an_engine_killed_in_a_stream_ends_it_with_an_error(
    line: Line, fragile: tuple[LlamaServer, Program]
) -> None:
    """A typed error event, and no end mark: half an answer never looks whole; field note 28."""
    server, agent = fragile
    with httpx.stream(
        "POST", f"{line.url}/v1/chat/completions", json=long(server.alias), timeout=30
    ) as answer:
        lines = answer.iter_lines()
        begun = [next(lines) for _ in range(6)]
        server.kill()
        body = "\n".join([*begun, *lines])

    *events, last = data_of(body)
    assert events
    assert "[DONE]" not in body
    assert error_in(last)["code"] == "stream_truncated"
    assert error_in(last)["type"] == "server_error"
    assert agent.child.poll() is None
    server.start()


def test_the_openai_client_raises_when_the_engine_dies(
    line: Line, fragile: tuple[LlamaServer, Program]
) -> None:
    """The event has the shape that OpenAI's client looks for."""
    server, _ = fragile
    with client(line.url) as asking:
        request = long(server.alias)
        stream = asking.chat.completions.create(
            extra_body={"ignore_eos": request.pop("ignore_eos")}, **request
        )
        next(iter(stream))
        server.kill()
        with pytest.raises(openai.APIError):
            list(stream)
    server.start()


def test_an_engine_that_comes_back_is_served_again(line: Line, fragile: tuple[LlamaServer, Program]) -> None:
    """Gone: who asks waits, and the model leaves the list; back: found again by itself; field note 26."""
    server, agent = fragile
    with ThreadPoolExecutor() as asking:
        server.kill()
        met_it = asking.submit(ask, line, server.alias)
        line.coordinator.event("capabilities_taken", lambda event: not event["models"])
        missed_it = asking.submit(ask, line, server.alias)
        server.start()
        line.coordinator.event("capabilities_taken", lambda event: server.alias in event["models"])
        back = ask(line, server.alias)

    assert [each.result().status_code for each in (met_it, missed_it)] == [httpx.codes.OK] * 2
    assert back.status_code == httpx.codes.OK
    assert agent.child.poll() is None


def test_the_odd_requests_of_one_client_take_an_engine_from_nobody(line: Line) -> None:
    """llama.cpp answers 500 to a text that is too long to embed: that says nothing of the engine."""
    with httpx.Client(base_url=line.url, timeout=30) as asking:

        def embed(text: str) -> int:
            return asking.post("/v1/embeddings", json={"model": "tiny-embed", "input": text}).status_code

        statuses = [embed("word " * 20_000) for _ in range(6)]
        status = embed("word")

    assert set(statuses) == {httpx.codes.BAD_GATEWAY}
    assert status == httpx.codes.OK


def test_an_engine_that_locks_us_out_is_a_bad_gateway(
    line: Line, fragile: tuple[LlamaServer, Program]
) -> None:
    """401 is between the agent and its engine: the client's own key is not at fault."""
    server, _ = fragile
    server.kill()
    server.start("--api-key", "another")
    answer = ask(line, server.alias)

    assert answer.status_code == httpx.codes.BAD_GATEWAY
    assert answer.json()["error"]["code"] == "auth_rejected_by_backend"
    assert "another" not in answer.text


def test_an_engine_with_a_key_is_served_with_the_configured_one(
    folder: Path, line: Line, start_agent: StartAgent
) -> None:
    """For a local engine, too: the key is named by variable in the file; field note 33."""
    locked = LlamaServer(folder, "locked")
    locked.start("--api-key", "open sesame")
    backend = ("llamacpp", f"{locked.url}/v1/", 'api_key_env = "ENGINE_KEY"')
    with start_agent("keyed", backend, models={"locked"}, ENGINE_KEY="open sesame"):
        answer = ask(line, "locked")
    locked.stop()

    assert answer.status_code == httpx.codes.OK


def test_a_model_that_nobody_has_is_not_found(line: Line) -> None:
    """In OpenAI's shape, streamed or not."""
    for stream in (False, True):
        answer = ask(line, "nobody-has-it", stream=stream)

        assert answer.status_code == httpx.codes.NOT_FOUND
        assert answer.json()["error"]["code"] == "model_not_found"


def test_more_jobs_than_slots_wait_for_their_turn(line: Line) -> None:
    """The engine has four slots and queues in silence; we know them and keep the queue ourselves."""
    with httpx.Client(timeout=30) as asking:
        bodies = [
            CHAT | {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": f"word {n}"}]}
            for n in range(12)
        ]
        answers = [asking.post(f"{line.url}/v1/chat/completions", json=body) for body in bodies]

    assert {answer.status_code for answer in answers} == {httpx.codes.OK}
