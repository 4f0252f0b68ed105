"""Split a query that has more candidates, or more bytes, than one job may have.

The parts are separate jobs, each with a contiguous range of the candidates.
`producer.client.merging` merges their results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from contract import jobs
from contract.columns import JobColumns
from contract.errors import InvalidInput, LimitExceeded
from contract.passages import Passages
from contract.settings import Settings
from contract.store.encoding import MOST_BYTES_PER_CHAR, columns_body

#: The number of bytes of a candidate's JSON in addition to its texts.
_AROUND_BYTES = 100


def split(job: jobs.Job, settings: Settings) -> jobs.SplitJob | None:
    """Return how to split a job of one query; None if it fits, or has several queries.

    Raises `LimitExceeded` if one candidate alone has too many bytes, `InvalidInput` if the job's id
    is too long for the ids of the parts.
    """
    if len(job.requests) != 1 or _fits(job, settings):
        return None
    made = jobs.SplitJob(
        job_id=job.id, bounds=tuple(_bounds(job, settings)), top_k=job.requests[0].top_k
    )
    for part_id in made.part_ids:
        if not jobs.JOB_ID.fullmatch(part_id):
            raise InvalidInput(
                f"job id {job.id!r} is too long; the query is split into several jobs, whose ids"
                f" are up to {len(part_id) - len(job.id)} characters longer"
            )
    return made


def estimated_passages(passages: Passages | None, texts: Iterable[str]) -> Iterator[int]:
    """Yield about how many passages of each text are scored; 1 if texts are not cut."""
    for text in texts:
        yield 1 if passages is None else passages.estimate(text)


def _pairs(job: jobs.Job) -> list[int]:
    """Return about how many pairs are scored for each candidate."""
    return list(estimated_passages(job.passages, (c.text for c in job.requests[0].candidates)))


def _fits(job: jobs.Job, settings: Settings) -> bool:
    request = job.requests[0]
    if len(request.candidates) > 1 and sum(_pairs(job)) > settings.max_pairs_per_job:
        return False
    chars = len(request.query) + sum(len(each.id) + len(each.text) for each in request.candidates)
    most = MOST_BYTES_PER_CHAR * chars + _AROUND_BYTES * (job.pairs + 10)
    if most <= settings.max_bytes_per_job and not any(each.metadata for each in request.candidates):
        return True  # known without encoding it
    return len(columns_body(JobColumns.of(job))) <= settings.max_bytes_per_job


def _bounds(job: jobs.Job, settings: Settings) -> Iterator[int]:
    """Yield the start of each part and the end; parts are of equal length if their bytes allow."""
    (request,) = job.requests
    sizes = [len(each.model_dump_json().encode()) + 1 for each in request.candidates]
    # The bytes of a part's JSON without its candidates. Its id is a little longer than the job's.
    around = len(job.model_dump_json().encode()) - sum(sizes) + _AROUND_BYTES
    most_bytes = settings.max_bytes_per_job - around
    counts = _pairs(job)
    parts = -(-sum(counts) // settings.max_pairs_per_job)
    most_pairs = -(-sum(counts) // parts)
    begin = taken = pairs = 0
    for place, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        if size > most_bytes:
            of_query = "" if request.query_id is None else f" of query {request.query_id!r}"
            raise LimitExceeded(
                f"document {request.candidates[place].id!r}{of_query} has {size + around:,} bytes"
                f" with its query, but the limit for a job is {settings.max_bytes_per_job:,}"
                " (RERANKQ_MAX_BYTES_PER_JOB); shorten it"
            )
        if place == begin or pairs + count > most_pairs or taken + size > most_bytes:
            yield place
            begin, taken, pairs = place, 0, 0
        taken += size
        pairs += count
    yield len(sizes)


def parts(job: jobs.Job, split: jobs.SplitJob) -> list[jobs.Job]:
    """Return the jobs of the parts."""
    (request,) = job.requests
    return [
        job.model_copy(
            update={
                "id": part_id,
                "requests": (
                    request.model_copy(update={"candidates": request.candidates[begin:end]}),
                ),
            }
        )
        for part_id, begin, end in zip(split.part_ids, split.bounds, split.bounds[1:], strict=False)
    ]
