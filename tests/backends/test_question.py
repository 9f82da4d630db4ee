"""What an engine is asked so that it loads a model."""

import json

import pytest

from provider_agent.backends.openai import ENDPOINTS
from provider_agent.backends.question import shortest_question


def asked(*endpoints: str, is_embedding: bool = False) -> tuple[str, dict[str, object]]:
    question = shortest_question("tiny", endpoints, is_embedding=is_embedding)
    assert question is not None
    return question[0], json.loads(question[1])


def test_one_token_is_enough() -> None:
    """Loading is what takes its time."""
    path, body = asked(*ENDPOINTS)

    assert (path, body) == ("/v1/completions", {"model": "tiny", "prompt": "Hi", "max_tokens": 1})


def test_a_model_that_only_embeds_is_asked_for_that() -> None:
    """Its engine may list all endpoints for all models, and fails with the wrong ones."""
    assert asked(*ENDPOINTS, is_embedding=True) == ("/v1/embeddings", {"model": "tiny", "input": "Hi"})


@pytest.mark.parametrize(
    ("endpoint", "limit"),
    [
        ("/v1/chat/completions", {"max_tokens": 1}),
        ("/v1/messages", {"max_tokens": 1}),
        ("/v1/responses", {"max_output_tokens": 16}),
        ("/v1/rerank", {}),
    ],
)
def test_it_is_asked_at_an_endpoint_that_it_has(endpoint: str, limit: dict[str, int]) -> None:
    """None of them makes it write more than it must."""
    path, body = asked(endpoint)

    assert (path, body["model"]) == (endpoint, "tiny")
    assert body | limit == body


def test_a_model_without_such_an_endpoint_is_not_asked() -> None:
    """There is no question that it would understand."""
    assert shortest_question("tiny", ["/v1/images"], is_embedding=False) is None
