"""Embeddings: the same text, the same vector, in both APIs."""

import base64
import struct
from typing import Any

import pytest

from provider_agent.simulator.embeddings import DIMENSIONS, ollama_embeddings, openai_embeddings
from provider_agent.simulator.task import BadTask


def test_the_same_text_has_the_same_vector_in_both_apis() -> None:
    """And another text another one."""
    (first, other) = ollama_embeddings({"model": "a", "input": ["hello", "bye"]})["embeddings"]
    (item,) = openai_embeddings({"model": "a", "input": "hello"})["data"]

    assert item["embedding"] == first != other
    assert len(first) == DIMENSIONS


def test_base64_holds_the_same_numbers() -> None:
    """The `openai` client asks for it by default."""
    plain = openai_embeddings({"input": "hello", "dimensions": 8})["data"][0]["embedding"]
    packed = openai_embeddings({"input": "hello", "dimensions": 8, "encoding_format": "base64"})
    numbers = struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"]))

    assert numbers == pytest.approx(plain, abs=1e-6)


def test_usage_counts_the_tokens_of_all_inputs() -> None:
    """Both APIs say the same number."""
    body = {"input": ["one two", "three"]}

    assert openai_embeddings(body)["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert ollama_embeddings(body)["prompt_eval_count"] == 3


@pytest.mark.parametrize(("tokens", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_openai_takes_token_numbers(tokens: list[Any], count: int) -> None:
    """One list is one text."""
    assert len(openai_embeddings({"input": tokens})["data"]) == count


def test_no_input_has_no_embeddings() -> None:
    """Ollama only loads the model then."""
    assert ollama_embeddings({"input": []})["embeddings"] == []


@pytest.mark.parametrize("body", [{}, {"input": {}}, {"input": ["a", 1]}, {"input": "a", "dimensions": 0}])
def test_a_bad_body_is_refused(body: dict[str, Any]) -> None:
    """With a sentence, not with a traceback."""
    with pytest.raises(BadTask, match=r"\w+ must be"):
        openai_embeddings(body)
    with pytest.raises(BadTask, match=r"\w+ must be"):
        ollama_embeddings(body)
