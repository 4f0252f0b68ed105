"""A staged query with its candidates as columns, which are cheaper than an object for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from pydantic_core import to_json

from contract import jobs
from contract.store.encoding import MOST_BYTES_PER_CHAR

#: More than the bytes of a candidate's or a query's JSON in addition to its texts.
_AROUND_BYTES = 150
_AROUND_REQUEST: dict[str, Any] = {"query": "", "candidates": [], "query_id": "", "top_k": None}
_AROUND_CANDIDATE = len('{"id":,"text":,"score":,"metadata":}')


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
    #: A digest of the candidates that were selected; None if they are all of them.
    selected: str | None = None

    @property
    def pairs(self) -> int:
        """The number of candidates."""
        return len(self.document_ids)

    def take(self, indexes: Sequence[int]) -> StagedQuery:
        """Return the query with only the candidates at these indexes, in this order."""
        return replace(
            self,
            document_ids=[self.document_ids[index] for index in indexes],
            texts=[self.texts[index] for index in indexes],
            scores=[self.scores[index] for index in indexes],
            metadata=[self.metadata[index] for index in indexes],
        )

    @cached_property
    def most_bytes(self) -> int:
        """At least `size_bytes`, which takes longer."""
        chars = len(self.id) + len(self.text) + sum(map(len, chain(self.document_ids, self.texts)))
        chars += sum(len(each) for each in self.metadata if each is not None)
        return MOST_BYTES_PER_CHAR * chars + _AROUND_BYTES * (self.pairs + 1)

    @cached_property
    def size_bytes(self) -> int:
        """The number of bytes of the JSON of the query's request in a list."""
        metadata = [None if each is None else json.loads(each) for each in self.metadata]
        columns = (self.document_ids, self.texts, self.scores, metadata)
        # A list of n values has n + 1 brackets and commas around them.
        values = sum(len(to_json(column)) - self.pairs - 1 for column in columns)
        head = len(to_json(_AROUND_REQUEST | {"query": self.text, "query_id": self.id}))
        return head + values + (_AROUND_CANDIDATE + 1) * self.pairs

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
