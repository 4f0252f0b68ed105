"""Jobs and results as columns: a list for each field, not an object for each pair.

Encoding, checking and scoring columns takes a fraction of the time that records take. A job has
each distinct text once. A column is None if none of its values is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, pairwise, repeat
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from contract.column_values import (
    Metadata,
    as_json,
    check_counts,
    check_lengths,
    check_metadata,
    filled,
    given,
    parsed,
)
from contract.jobs import Job
from contract.passages import PassageColumns, Passages
from contract.records import JobId, Provenance, Record
from contract.results import JobResult, relevance
from contract.validation import describe


class JobColumns(Record):
    """The same as a `Job`, with the same restrictions."""

    id: JobId
    model: str | None = Field(None, min_length=1)
    allow_downgrade: bool = True
    passages: Passages | None = None

    #: Columns of the requests.
    queries: list[str]
    query_ids: list[str | None] | None = None
    top_ks: list[int | None] | None = None
    #: The number of candidates.
    counts: list[int]

    #: Columns of the candidates of all requests, in order.
    ids: list[str]
    #: Indexes into `texts`.
    text_indexes: list[int]
    scores: list[float | None] | None = None
    metadata: Metadata | None = None

    #: The distinct texts of all candidates.
    texts: list[str]

    @property
    def pairs(self) -> int:
        """The number of (query, document) pairs."""
        return len(self.ids)

    @property
    def bounds(self) -> list[int]:
        """The index of each request's first candidate, and the number of all candidates."""
        return [0, *accumulate(self.counts)]

    def each_pair(self) -> Iterator[tuple[str, str]]:
        """Yield the query and the text of each candidate."""
        queries = chain.from_iterable(map(repeat, self.queries, self.counts))
        return zip(queries, map(self.texts.__getitem__, self.text_indexes), strict=True)

    @classmethod
    def of(cls, job: Job) -> JobColumns:
        """Return the columns of a job."""
        candidates = [each for request in job.requests for each in request.candidates]
        texts: dict[str, int] = {}
        return cls.model_construct(
            id=job.id,
            model=job.model,
            allow_downgrade=job.allow_downgrade,
            passages=job.passages,
            queries=[each.query for each in job.requests],
            query_ids=given([each.query_id for each in job.requests]),
            top_ks=given([each.top_k for each in job.requests]),
            counts=[len(each.candidates) for each in job.requests],
            ids=[each.id for each in candidates],
            text_indexes=[texts.setdefault(each.text, len(texts)) for each in candidates],
            scores=given([each.score for each in candidates]),
            metadata=given([as_json(each.metadata) for each in candidates]),
            texts=list(texts),
        )

    def job(self) -> Job:
        """Return the job. Raises pydantic's `ValidationError` if it is invalid."""
        candidates = [
            {"id": id_, "text": self.texts[text], "score": score, "metadata": parsed(metadata)}
            for id_, text, score, metadata in zip(
                self.ids,
                self.text_indexes,
                filled(self.scores, self.pairs),
                filled(self.metadata, self.pairs),
                strict=True,
            )
        ]
        rows = len(self.queries)
        requests = [
            {"query": query, "query_id": query_id, "top_k": top_k, "candidates": candidates[a:b]}
            for query, query_id, top_k, (a, b) in zip(
                self.queries,
                filled(self.query_ids, rows),
                filled(self.top_ks, rows),
                pairwise(self.bounds),
                strict=True,
            )
        ]
        return Job.model_validate(
            {
                "id": self.id,
                "requests": requests,
                "model": self.model,
                "allow_downgrade": self.allow_downgrade,
                "passages": self.passages,
            }
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_lengths(self, ("query_ids", "top_ks", "counts"), len(self.queries))
        check_lengths(self, ("text_indexes", "scores", "metadata"), len(self.ids))
        check_counts(self.counts, len(self.ids))
        if self.ids and not 0 <= min(self.text_indexes) <= max(self.text_indexes) < len(self.texts):
            raise ValueError(f"text_indexes: must be from 0 to {len(self.texts) - 1}")
        check_metadata(self.metadata)
        if self._is_suspicious():
            # The records have the messages, which name the request and the candidate.
            try:
                self.job()
            except ValidationError as error:
                raise ValueError(describe(error)) from error
        return self

    def _is_suspicious(self) -> bool:
        """Return whether the record of this job may be invalid."""
        texts = (self.queries, self.ids, self.texts, filter(None, self.query_ids or ()))
        return (
            not self.queries
            or 0 in self.counts
            or not all(map(str.strip, self.queries))
            or not all(self.ids)
            or any(top_k is not None and top_k < 1 for top_k in self.top_ks or ())
            or any(len(set(self.ids[a:b])) < b - a for a, b in pairwise(self.bounds))
            or not all(map(_is_unicode, texts))
        )


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
    #: The number of candidates with shorter passages than requested; None without passages.
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


def _is_unicode(texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _all_given(column: list[int | None]) -> list[int] | None:
    """Return a column of numbers; None if one of them is not known."""
    known = [each for each in column if each is not None]
    return known if len(known) == len(column) else None
