"""The record of a job; this module also exports the other records of the contract.

A job holds requests: queries with their candidates. It ends with exactly one result or failure.
`contract.results` defines both, and the states in between.
"""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator
from pydantic_core import from_json

from contract.errors import InvalidInput
from contract.passages import Passage, Passages
from contract.records import (
    CANCELLED,
    GPU_FAILED,
    JOB_ID,
    WORKER_DIED,
    Failure,
    JobId,
    Provenance,
    Record,
    SplitJob,
    is_none,
)
from contract.results import (
    FINAL_STATES,
    OUTCOME,
    UNREADABLE,
    DeadLetter,
    JobResult,
    JobState,
    JobStatus,
    Outcome,
    OutcomeOrError,
    QueueStatus,
    RankedDocument,
    Ranking,
    cancellation,
    relevance,
    result_of,
)
from contract.validation import describe

__all__ = [
    "CANCELLED",
    "FINAL_STATES",
    "GPU_FAILED",
    "JOB_ID",
    "OUTCOME",
    "UNREADABLE",
    "WORKER_DIED",
    "Candidate",
    "DeadLetter",
    "Failure",
    "Job",
    "JobId",
    "JobResult",
    "JobState",
    "JobStatus",
    "Outcome",
    "OutcomeOrError",
    "Passage",
    "Passages",
    "Provenance",
    "Query",
    "QueueStatus",
    "RankedDocument",
    "Ranking",
    "Record",
    "Request",
    "SplitJob",
    "Text",
    "cancellation",
    "new_job_id",
    "parse",
    "relevance",
    "result_of",
]


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _check_unicode(text: str) -> str:
    # Python strings may contain a lone surrogate, which can be neither stored nor tokenized.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate, which is not Unicode") from None
    return text


def _check_unicode_inside(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    text = _check_unicode(json.dumps(data, ensure_ascii=False))
    # The JSON parser limits the depth of the whole job, so the levels around metadata count too.
    around = 8
    try:
        from_json("[" * around + text + "]" * around)
    except ValueError:
        raise ValueError("is nested too deeply") from None
    return data


Text = Annotated[str, AfterValidator(_check_unicode)]
Query = Annotated[Text, AfterValidator(_check_not_blank)]


class Candidate(Record):
    """A document of the first stage that is scored against the query."""

    #: The caller's id of the document, unique within its request.
    id: Text = Field(min_length=1)
    #: May be empty: test collections hold empty documents.
    text: Text
    #: The first stage's score.
    score: float | None = None
    #: Returned unchanged with the ranked document.
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_check_unicode_inside)] | None = None


class Request(Record):
    """A query with its candidates."""

    query: Query
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    #: The caller's id of the query.
    query_id: Text | None = None
    #: The number of best documents to keep; None keeps all.
    top_k: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_ids_differ(self) -> Self:
        if len({each.id for each in self.candidates}) == len(self.candidates):
            return self
        seen: set[str] = set()
        for candidate in self.candidates:
            if candidate.id in seen:
                raise ValueError(f"duplicate candidate id {candidate.id!r}")
            seen.add(candidate.id)
        return self


class Job(Record):
    """A unit of work: one message on the queue."""

    id: JobId
    requests: tuple[Request, ...] = Field(min_length=1)
    #: The requested model; None is the worker's default.
    model: str | None = Field(None, min_length=1)
    #: Whether a smaller model may score the job if this one runs out of memory or time.
    allow_downgrade: bool = True
    #: How long documents are cut into passages; None truncates them to what the model reads.
    passages: Passages | None = Field(None, exclude_if=is_none)

    @property
    def pairs(self) -> int:
        """The number of (query, document) pairs."""
        return sum(len(request.candidates) for request in self.requests)


def new_job_id() -> str:
    """Return a unique id."""
    return str(uuid.uuid4())


RecordType = TypeVar("RecordType", bound=Record)


def parse(kind: type[RecordType], data: Any) -> RecordType:
    """Make a record from plain data: a dict, or a record of that kind, which is returned unchanged.

    Raises `InvalidInput` with the first fault and its place.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(describe(error)) from error
