"""Keep the documents of a queued query with its result, if the answer is to return them."""

from __future__ import annotations

from typing import Any

from contract import jobs
from producer.http import cohere
from producer.http.cohere import RerankBody
from producer.http.schemas import text_of

#: The field of a candidate's metadata.
DOCUMENT = "document"


def candidates(body: RerankBody) -> list[dict[str, Any]]:
    """Return the documents to queue, with copies in their metadata if the answer returns them."""
    return [
        {"text": text_of(each)}
        | ({"metadata": {DOCUMENT: cohere.returned(each)}} if body.return_documents else {})
        for each in body.documents
    ]


def kept_documents(ranking: jobs.Ranking) -> dict[int, Any] | None:
    """Return the documents of a ranking by their indexes; None if they were not kept."""
    kept = {each.index: (each.metadata or {}).get(DOCUMENT) for each in ranking.documents}
    return kept if any(each is not None for each in kept.values()) else None
