"""A staged query with its candidates as columns, which are cheaper than an object for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from contract import jobs


@dataclass(frozen=True)
class StagedQuery:
    """A query, and a value for each of its candidates in each column."""

    id: str
    text: str
    document_ids: Sequence[str]
    texts: Sequence[str]
    scores: Sequence[float | None]
    #: The metadata as JSON.
    metadata: Sequence[str | None]

    def request(self, top_k: int | None) -> jobs.Request:
        """Return the query as a request."""
        return jobs.parse(
            jobs.Request,
            {
                "query_id": self.id,
                "query": self.text,
                "top_k": top_k,
                "candidates": [
                    {
                        "id": document_id,
                        "text": text,
                        "score": score,
                        "metadata": None if metadata is None else json.loads(metadata),
                    }
                    for document_id, text, score, metadata in zip(
                        self.document_ids, self.texts, self.scores, self.metadata, strict=True
                    )
                ],
            },
        )
