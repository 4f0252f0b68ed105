"""What comes back for a job: a result with one ranking a request, or a failure."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter

from contract.errors import InvalidInput, JobFailed, RerankError
from contract.failure import Failure
from contract.provenance import Provenance
from contract.record import Record


class RankedDocument(Record):
    """A candidate with its new place and score."""

    id: str
    #: Place in the request's candidates, from 0.
    index: int
    #: From 1.
    rank: int
    #: The model's raw logit: any real number, higher is better.
    score: float
    #: Sigmoid of the score, from 0 to 1.
    relevance: float
    metadata: dict[str, JsonValue] | None = None


class Ranking(Record):
    """One query's documents, best first, all scored by one model."""

    query_id: str | None
    documents: tuple[RankedDocument, ...]
    #: Candidates that were longer than the model reads.
    truncated: int = 0


class JobResult(Record):
    """The rankings of a job, in the order of its requests."""

    job_id: str
    rankings: tuple[Ranking, ...]
    provenance: Provenance

    @property
    def documents(self) -> tuple[RankedDocument, ...]:
        """The ranked documents of a job with one request.

        Raises `InvalidInput` if the job has several: read `rankings` then.
        """
        if len(self.rankings) != 1:
            raise InvalidInput(
                f"job {self.job_id} has {len(self.rankings)} rankings: read .rankings"
            )
        return self.rankings[0].documents


Outcome = JobResult | Failure
#: An outcome, or why there is none to be had.
OutcomeOrError = Outcome | RerankError

OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def result_of(ended: OutcomeOrError) -> JobResult:
    """The result; raises `JobFailed` if it is a failure, or the error that stands in its place."""
    if isinstance(ended, RerankError):
        raise ended
    if isinstance(ended, Failure):
        raise JobFailed(ended)
    return ended
