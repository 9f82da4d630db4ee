"""Reranking: documents by how many words of the query they have."""

from typing import Any

import pytest

from provider_agent.simulator.rerank import rerank
from provider_agent.simulator.task import BadTask

DOCUMENTS: list[Any] = ["a red house", {"text": "a blue house by the sea"}, "nothing"]


def test_the_best_comes_first() -> None:
    """With its place in the request, and counted."""
    answer = rerank({"model": "a", "query": "blue house", "documents": DOCUMENTS})

    assert [result["index"] for result in answer["results"]] == [1, 0, 2]
    assert answer["results"][0]["relevance_score"] == 1.0
    assert answer["usage"]["prompt_tokens"] > 0


def test_only_so_many_as_are_wanted() -> None:
    """`top_n`."""
    answer = rerank({"model": "a", "query": "blue house", "documents": DOCUMENTS, "top_n": 1})

    assert [result["index"] for result in answer["results"]] == [1]


@pytest.mark.parametrize(
    "body",
    [
        {"documents": DOCUMENTS},
        {"query": "", "documents": DOCUMENTS},
        {"query": "x"},
        {"query": "x", "documents": []},
        {"query": "x", "documents": [5]},
        {"query": "x", "documents": DOCUMENTS, "top_n": 0},
    ],
)
def test_a_bad_body_is_refused(body: dict[str, Any]) -> None:
    """With a sentence."""
    with pytest.raises(BadTask, match=r"\w+ \w+"):
        rerank(body)
