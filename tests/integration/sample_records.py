"""Jobs, results and failures to store, like those of a caller or a worker."""

from __future__ import annotations

from typing import Any

from contract import jobs
from tests.documents import QUERY as QUERY

DOCUMENTS = ("a tag editor for music files", "a game with a blue hedgehog")


def request(*, documents: int = 2, query: str = QUERY, **fields: Any) -> jobs.Request:
    """Return a request with this many different documents."""
    candidates = tuple(
        jobs.Candidate(id=f"d{place}", text=f"document number {place}")
        for place in range(documents)
    )
    return jobs.Request(query=query, candidates=candidates, **fields)


def job(
    job_id: str | None = None,
    *,
    requests: int = 1,
    documents: int = 2,
    query: str = QUERY,
    model: str | None = None,
) -> jobs.Job:
    """Return a job with this many requests of this many documents each."""
    return jobs.Job(
        id=job_id or jobs.new_job_id(),
        requests=tuple(request(documents=documents, query=query) for _ in range(requests)),
        model=model,
    )


def result_of(job_id: str, *, downgraded: bool = False, score: float = 1.5) -> jobs.JobResult:
    """Return a result like a worker's."""
    document = jobs.RankedDocument(id="d1", index=1, rank=1, score=score, relevance=0.8)
    return jobs.JobResult(
        job_id=job_id,
        rankings=(jobs.Ranking(query_id=None, documents=(document,)),),
        provenance=jobs.Provenance(
            model_requested="bundled",
            model="smaller" if downgraded else "bundled",
            downgraded=downgraded,
            reason="out of memory" if downgraded else None,
            attempts=1,
            backend="torch",
            device="cpu",
            dtype="float32",
            max_length=512,
            pairs=2,
            unique_pairs=2,
            tokens=40,
            truncated=0,
            seconds=0.1,
        ),
    )


def result_of_job(job: jobs.Job, model: str = "bundled", score: float = 1.5) -> jobs.JobResult:
    """Return a result for each request of a job, like a worker's."""
    made = result_of(job.id, score=score)
    return made.model_copy(
        update={
            "rankings": tuple(
                made.rankings[0].model_copy(update={"query_id": each.query_id})
                for each in job.requests
            ),
            "provenance": made.provenance.model_copy(update={"model_requested": model}),
        }
    )


def failure_of(job_id: str, code: str = "scoring_failed") -> jobs.Failure:
    """Return a failure like a worker's."""
    return jobs.Failure(
        job_id=job_id, code=code, message="the model failed", retryable=False, attempts=1
    )
