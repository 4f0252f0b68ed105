"""A job as columns: a list for each field of its requests and candidates, not an object for each.

Encoding, checking and scoring columns takes a fraction of the time that records take. A job has
each distinct text once. A column is None if none of its values is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json, to_json

from contract.jobs import Job
from contract.passages import Passages
from contract.records import JobId, Record
from contract.validation import describe

T = TypeVar("T")

#: Metadata of candidates or documents, each as a JSON object in one line.
Metadata = list[str | None]


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


def given(column: list[T]) -> list[T] | None:
    """Return a column, or None if none of its values is given."""
    return column if column.count(None) < len(column) else None  # type: ignore[arg-type]


def filled(column: Sequence[T] | None, rows: int) -> Sequence[T | None]:
    """Return a column; one that is not given as Nones."""
    return [None] * rows if column is None else column


def as_json(metadata: dict[str, Any] | None) -> str | None:
    """Return metadata as JSON in one line."""
    return None if metadata is None else to_json(metadata).decode()


def parsed(metadata: str | None) -> Any:
    """Return metadata from its JSON. Raises `ValueError`."""
    return None if metadata is None else from_json(metadata.encode(), allow_inf_nan=False)


def check_lengths(columns: Record, names: Sequence[str], rows: int) -> None:
    """Raise `ValueError` unless these columns have this number of values, or are not given."""
    for name in names:
        column = getattr(columns, name)
        if column is not None and len(column) != rows:
            raise ValueError(f"{name}: must have {rows:,} entries, not {len(column):,}")


def check_counts(counts: Sequence[int], rows: int) -> None:
    """Raise `ValueError` unless the counts divide this number of rows."""
    if min(counts, default=0) < 0 or sum(counts) != rows:
        raise ValueError(f"counts: must add up to {rows:,}")


def check_metadata(metadata: Metadata | None) -> None:
    """Raise `ValueError` unless all texts are JSON objects in one line."""
    for row, text in enumerate(metadata or ()):
        if text is not None and not _is_metadata(text):
            raise ValueError(f"metadata[{row}]: must be a JSON object in one line")


def _is_unicode(texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_metadata(text: str) -> bool:
    try:
        return "\n" not in text and isinstance(parsed(text), dict)
    except ValueError:
        return False
