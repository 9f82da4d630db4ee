"""Reranking as Jina's API has it, `/v1/rerank`: the same texts, the same order; knows no HTTP server."""

from typing import Any

from provider_agent.simulator import text
from provider_agent.simulator.openai_tasks import count_of
from provider_agent.simulator.style import Json
from provider_agent.simulator.task import BadTask


def rerank(body: Json) -> dict[str, Any]:
    """The answer of `/v1/rerank`. Raises BadTask.

    The more words of the query a document has, the better it is.
    """
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str) or not query:
        raise BadTask("query must be a text")
    if not isinstance(documents, list) or not documents:
        raise BadTask("documents must be a list of texts")
    texts = [_text(document) for document in documents]
    limit = count_of(body.get("top_n"), "top_n")
    scores = [_score(query, document) for document in texts]
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[:limit]
    tokens = sum(text.count_tokens(query) + text.count_tokens(document) for document in texts)
    return {
        "object": "list",
        "model": body.get("model"),
        "results": [{"index": index, "relevance_score": scores[index]} for index in best],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _text(document: Any) -> str:
    said = document.get("text") if isinstance(document, dict) else document
    if not isinstance(said, str):
        raise BadTask("each document must be a text, or an object with one")
    return said


def _score(query: str, document: str) -> float:
    wanted = {token.strip().lower() for token in text.tokens_of(query)}
    found = {token.strip().lower() for token in text.tokens_of(document)}
    return round(len(wanted & found) / len(wanted), 4)
