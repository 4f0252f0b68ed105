"""A query of more candidates, or more bytes, than one job may have: its parts, and their merging.

The parts are jobs of their own, each with some of the candidates in their order. Merged, their
rankings are the ranking that one job would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contract import jobs
from contract.errors import InvalidInput, LimitExceeded, MixedModels
from contract.settings import Settings

#: A character in JSON is at most this many bytes.
_BYTES_PER_CHAR = 6
#: Of a candidate's JSON: what stands around its texts.
_AROUND_BYTES = 100


def split(job: jobs.Job, settings: Settings) -> jobs.Split | None:
    """Return how to split a job of one query; None if it fits as it is, or has several queries.

    Raises `LimitExceeded` if one candidate alone has too many bytes, `InvalidInput` if the job's id
    leaves no room for those of the parts.
    """
    if len(job.requests) != 1 or _fits(job, settings):
        return None
    made = jobs.Split(
        job_id=job.id, bounds=tuple(_bounds(job, settings)), top_k=job.requests[0].top_k
    )
    for part_id in made.part_ids:
        if not jobs.JOB_ID.fullmatch(part_id):
            raise InvalidInput(
                f"job id {job.id!r} is too long for a query that is split into several jobs, whose"
                f" ids have up to {len(part_id) - len(job.id)} characters more: shorten it"
            )
    return made


def _fits(job: jobs.Job, settings: Settings) -> bool:
    if job.pairs > settings.max_pairs_per_job:
        return False
    request = job.requests[0]
    chars = len(request.query) + sum(len(each.id) + len(each.text) for each in request.candidates)
    most = _BYTES_PER_CHAR * chars + _AROUND_BYTES * (job.pairs + 10)
    if most <= settings.max_bytes_per_job and not any(each.metadata for each in request.candidates):
        return True  # without being encoded
    return len(job.model_dump_json().encode()) <= settings.max_bytes_per_job


def _bounds(job: jobs.Job, settings: Settings) -> Iterator[int]:
    """Yield where parts begin, and the end: parts of equal length, unless bytes say otherwise."""
    (request,) = job.requests
    sizes = [len(each.model_dump_json().encode()) + 1 for each in request.candidates]
    # Of a part's JSON without its candidates; its id is a little longer than the job's.
    around = len(job.model_dump_json().encode()) - sum(sizes) + _AROUND_BYTES
    most_bytes = settings.max_bytes_per_job - around
    parts = -(-len(sizes) // settings.max_pairs_per_job)
    most_pairs = -(-len(sizes) // parts)
    begin = taken = 0
    for place, size in enumerate(sizes):
        if size > most_bytes:
            of_query = "" if request.query_id is None else f" of query {request.query_id!r}"
            raise LimitExceeded(
                f"document {request.candidates[place].id!r}{of_query} is {size + around:,} bytes"
                f" with its query, a job may have {settings.max_bytes_per_job:,}"
                " (RERANKQ_MAX_BYTES_PER_JOB): shorten it"
            )
        if place == begin or place - begin == most_pairs or taken + size > most_bytes:
            yield place
            begin, taken = place, 0
        taken += size
    yield len(sizes)


def parts(job: jobs.Job, how: jobs.Split) -> list[jobs.Job]:
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
        for part_id, begin, end in zip(how.part_ids, how.bounds, how.bounds[1:], strict=False)
    ]


def merge(how: jobs.Split, results: Sequence[jobs.JobResult]) -> jobs.JobResult:
    """Return the result that one job would have had, given those of the parts in their order.

    Raises `MixedModels` if they are not all of one model.
    """
    _check_one_model(how, results)
    documents = [
        document.model_copy(update={"index": begin + document.index})
        for begin, result in zip(how.bounds, results, strict=False)
        for document in result.documents
    ]
    # As a worker ranks: equal scores keep the order of the input.
    documents.sort(key=lambda document: (-document.score, document.index))
    ranking = (
        results[0]
        .rankings[0]
        .model_copy(
            update={
                "documents": tuple(
                    document.model_copy(update={"rank": rank})
                    for rank, document in enumerate(documents[: how.top_k], start=1)
                ),
                "truncated": sum(result.rankings[0].truncated for result in results),
            }
        )
    )
    return jobs.JobResult(
        job_id=how.job_id,
        rankings=(ranking,),
        provenance=_merged([result.provenance for result in results]),
    )


def _merged(made: Sequence[jobs.Provenance]) -> jobs.Provenance:
    sums = ("pairs", "unique_pairs", "tokens", "truncated", "seconds")
    return made[0].model_copy(
        update={
            **{name: sum(getattr(each, name) for each in made) for name in sums},
            **{
                name: ", ".join(dict.fromkeys(getattr(each, name) for each in made))
                for name in _PLACES
            },
            "attempts": max(each.attempts for each in made),
            "parts": len(made),
        }
    )


#: Of a provenance: what may differ between parts without making other scores.
_PLACES = ("backend", "device")


def _check_one_model(how: jobs.Split, results: Sequence[jobs.JobResult]) -> None:
    made = [result.provenance for result in results]
    if len({(each.model_requested, each.model, each.dtype, each.max_length) for each in made}) == 1:
        return
    models = ", ".join(dict.fromkeys(f"{each.model} ({each.dtype})" for each in made))
    error = MixedModels(
        f"the parts of job {how.job_id} were scored by different models: {models}. Submit it again"
        " under another id, with the model that is to score it"
    )
    downgraded = [each for each in made if each.downgraded]
    if downgraded and len({each.model_requested for each in made}) == 1:
        error.downgrade = downgraded[0]
    raise error


def downgraded(job: jobs.Job, error: MixedModels, settings: Settings, job_id: str) -> jobs.Job:
    """Return the job that has all candidates scored by the model that scored some of them.

    Raises `error` if no smaller model took the place of the one asked for, or none may be asked
    for by its name.
    """
    if error.downgrade is None or not settings.allows(error.downgrade.model):
        raise error
    return job.model_copy(
        update={"id": job_id, "model": error.downgrade.model, "allow_downgrade": False}
    )


def as_downgraded(result: jobs.JobResult, job_id: str, mixed: MixedModels) -> jobs.JobResult:
    """Return the result of such a job as that of job `job_id`, whose provenance says why."""
    first = mixed.downgrade
    if first is None:
        raise mixed
    made = result.provenance.model_copy(
        update={
            "model_requested": first.model_requested,
            "downgraded": True,
            "reason": first.reason,
            "attempts": first.attempts + result.provenance.attempts,
        }
    )
    return result.model_copy(update={"job_id": job_id, "provenance": made})


def failure(how: jobs.Split, part_id: str, ended: jobs.Failure) -> jobs.Failure:
    """Return the failure of the whole, of which one part has failed."""
    place = how.part_ids.index(part_id)
    begin, end = how.bounds[place : place + 2]
    where = f"candidates {begin + 1:,} to {end:,} of {how.bounds[-1]:,}"
    return ended.model_copy(update={"job_id": how.job_id, "message": f"{where}: {ended.message}"})


def status(how: jobs.Split, of_parts: Sequence[jobs.JobStatus]) -> jobs.JobStatus:
    """Return the state of the whole."""
    states = {each.state for each in of_parts}
    ended = states <= set(jobs.ENDED)
    first = next((each for each in _BY_WEIGHT if each in states), jobs.JobState.DONE)
    if not ended and jobs.JobState.DONE in states:
        first = jobs.JobState.RUNNING
    starts = [each.started_at for each in of_parts if each.started_at is not None]
    return jobs.JobStatus(
        job_id=how.job_id,
        state=first,
        pairs=how.bounds[-1],
        requests=1,
        attempts=max(each.attempts for each in of_parts),
        submitted_at=min(each.submitted_at for each in of_parts),
        started_at=min(starts) if starts else None,
        ended_at=max(each.ended_at or 0.0 for each in of_parts) if ended else None,
        code=next((each.code for each in of_parts if each.state is first and each.code), None),
        outcome_kept=all(each.outcome_kept for each in of_parts),
    )


#: Which of the parts' states is that of the whole.
_BY_WEIGHT = (
    jobs.JobState.FAILED,
    jobs.JobState.CANCELLED,
    jobs.JobState.RUNNING,
    jobs.JobState.QUEUED,
)
