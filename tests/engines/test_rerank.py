"""Documents are ranked through the line as by the engine itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engines.conftest import Line, StartAgent
from tests.engines.processes import LlamaServer


@pytest.fixture(scope="module")
def ranker(folder: Path, start_agent: StartAgent) -> Iterator[LlamaServer]:
    with (
        LlamaServer(folder, "ranker", "--embeddings", "--reranking") as server,
        start_agent("ranker-den", ("llamacpp", server.url, ""), models={"ranker"}),
    ):
        yield server


def test_documents_are_ranked_as_by_the_engine(line: Line, ranker: LlamaServer) -> None:
    """Order and scores."""
    body = {"model": "ranker", "query": "An agent", "documents": ["carries words", "apples", "An agent"]}
    expected, got = (
        httpx.post(f"{url}/v1/rerank", json=body, timeout=30).raise_for_status().json()["results"]
        for url in (ranker.url, line.url)
    )

    assert got == expected
    assert len(got) == len(body["documents"])
