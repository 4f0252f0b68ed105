"""The result of a job as columns: a list for each field of its rankings and documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain, pairwise
from typing import Any, Self

from pydantic import model_validator

from contract.columns import (
    Metadata,
    as_json,
    check_counts,
    check_lengths,
    check_metadata,
    filled,
    given,
    parsed,
)
from contract.passages import PassageColumns
from contract.records import Provenance, Record
from contract.results import JobResult, relevance


class ResultColumns(Record):
    """The same as a `JobResult`. The ranks of documents follow from their order."""

    job_id: str
    provenance: Provenance

    #: Columns of the rankings, in the order of the requests.
    query_ids: list[str | None] | None = None
    #: The number of candidates that were truncated.
    truncated: list[int]
    #: About how many tokens were not read; None if it is not known.
    lost_tokens: list[int] | None = None
    #: The number of candidates with shorter passages than asked for; None without passages.
    shortened: list[int] | None = None
    #: The number of documents.
    counts: list[int]

    #: Columns of the documents of all rankings, best first within each.
    ids: list[str]
    #: Indexes among the candidates of the request.
    indexes: list[int]
    #: The model's raw logits.
    scores: list[float]
    metadata: Metadata | None = None
    #: 1 for each document that was truncated, else 0; None if none was, or if it is not known.
    cut: list[int] | None = None
    #: About how many tokens of each document were not read; None like `cut`.
    lost: list[int] | None = None
    #: The passages that the scores are from; None if documents were not cut.
    passages: PassageColumns | None = None

    #: The version of the code that scored; None if it is not known.
    scoring_version: int | None = None

    @property
    def bounds(self) -> list[int]:
        """The index of each ranking's first document, and the number of all documents."""
        return [0, *accumulate(self.counts)]

    @classmethod
    def of(cls, result: JobResult) -> ResultColumns:
        """Return the columns of a result."""
        documents = [each for ranking in result.rankings for each in ranking.documents]
        return cls.model_construct(
            job_id=result.job_id,
            provenance=result.provenance,
            query_ids=given([each.query_id for each in result.rankings]),
            truncated=[each.truncated for each in result.rankings],
            counts=[len(each.documents) for each in result.rankings],
            ids=[each.id for each in documents],
            indexes=[each.index for each in documents],
            scores=[each.score for each in documents],
            metadata=given([as_json(each.metadata) for each in documents]),
            lost_tokens=_all_given([each.lost_tokens for each in result.rankings]),
            shortened=_all_given([each.shortened for each in result.rankings]),
            passages=PassageColumns.of([each.passage for each in documents]),
        )

    def result(self) -> JobResult:
        """Return the result."""
        rows, documents = len(self.counts), list(self._documents())
        rankings = [
            {
                "query_id": query_id,
                "documents": documents[begin:end],
                "truncated": truncated,
                "lost_tokens": lost,
                "shortened": shortened,
            }
            for query_id, truncated, lost, shortened, (begin, end) in zip(
                filled(self.query_ids, rows),
                self.truncated,
                filled(self.lost_tokens, rows),
                filled(self.shortened, rows),
                pairwise(self.bounds),
                strict=True,
            )
        ]
        return JobResult.model_validate(
            {"job_id": self.job_id, "rankings": rankings, "provenance": self.provenance}
        )

    def _documents(self) -> Iterator[dict[str, Any]]:
        ranks = chain.from_iterable(range(1, count + 1) for count in self.counts)
        metadata = filled(self.metadata, len(self.ids))
        passages = filled(self.passages.each() if self.passages else None, len(self.ids))
        for id_, index, rank, score, text, passage in zip(
            self.ids, self.indexes, ranks, self.scores, metadata, passages, strict=True
        ):
            yield {
                "id": id_,
                "index": index,
                "rank": rank,
                "score": score,
                "relevance": relevance(score),
                "metadata": parsed(text),
                "passage": passage,
            }

    @model_validator(mode="after")
    def _check(self) -> Self:
        of_rankings = ("query_ids", "truncated", "lost_tokens", "shortened")
        of_documents = ("indexes", "scores", "metadata", "cut", "lost", "passages")
        check_lengths(self, of_rankings, len(self.counts))
        check_lengths(self, of_documents, len(self.ids))
        check_counts(self.counts, len(self.ids))
        check_metadata(self.metadata)
        return self


def _all_given(column: list[int | None]) -> list[int] | None:
    """Return a column of numbers; None if one of them is not known."""
    known = [each for each in column if each is not None]
    return known if len(known) == len(column) else None
