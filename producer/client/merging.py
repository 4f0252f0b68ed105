"""Merge the results, failures and states of the parts of a split query.

The merged ranking is the same as for a single job. `producer.client.splitting` makes the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from contract import jobs
from contract.errors import MixedModels
from contract.settings import Settings


def merge_results(split: jobs.SplitJob, results: Sequence[jobs.JobResult]) -> jobs.JobResult:
    """Return the result of the whole query, from the results of the parts in their order.

    Raises `MixedModels` if different models scored the parts.
    """
    _check_one_model(split, results)
    documents = [
        document.model_copy(update={"index": begin + document.index})
        for begin, result in zip(split.bounds, results, strict=False)
        for document in result.documents
    ]
    # The same order as in a worker: equal scores keep the order of the input.
    documents.sort(key=lambda document: (-document.score, document.index))
    ranking = (
        results[0]
        .rankings[0]
        .model_copy(
            update={
                "documents": tuple(
                    document.model_copy(update={"rank": rank})
                    for rank, document in enumerate(documents[: split.top_k], start=1)
                ),
                "truncated": sum(result.rankings[0].truncated for result in results),
                "lost_tokens": _sum([result.rankings[0].lost_tokens for result in results]),
                "shortened": _sum([result.rankings[0].shortened for result in results]),
            }
        )
    )
    return jobs.JobResult(
        job_id=split.job_id,
        rankings=(ranking,),
        provenance=_merged([result.provenance for result in results]),
    )


def _merged(made: Sequence[jobs.Provenance]) -> jobs.Provenance:
    revisions = {each.revision for each in made}
    sums = ("pairs", "unique_pairs", "tokens", "truncated", "seconds")
    return made[0].model_copy(
        update={
            **{name: sum(getattr(each, name) for each in made) for name in sums},
            **{
                name: ", ".join(dict.fromkeys(getattr(each, name) for each in made))
                for name in _PLACES
            },
            **{name: _sum([getattr(each, name) for each in made]) for name in _KNOWN_SUMS},
            "revision": made[0].revision if len(revisions) == 1 else None,
            "attempts": max(each.attempts for each in made),
            "parts": len(made),
        }
    )


def _sum(numbers: Sequence[int | None]) -> int | None:
    """Return the sum; None if one of them is not known."""
    known = [each for each in numbers if each is not None]
    return sum(known) if len(known) == len(numbers) else None


#: Counts that the results of old workers do not have.
_KNOWN_SUMS = ("passages_scored", "lost_tokens")
#: The fields of a provenance that may differ between parts without affecting scores.
_PLACES = ("backend", "device")


def _check_one_model(split: jobs.SplitJob, results: Sequence[jobs.JobResult]) -> None:
    made = [result.provenance for result in results]
    models_and_settings = {
        (each.model_requested, each.model, each.dtype, each.max_length, each.prompt, each.passages)
        for each in made
    }
    # Old workers report no revision.
    if len(models_and_settings) == 1 and len({each.revision for each in made} - {None}) <= 1:
        return
    models = ", ".join(dict.fromkeys(map(_in_words, made)))
    error = MixedModels(
        f"different models scored the parts of job {split.job_id}: {models}. Submit the job again"
        " with another id and the model to use"
    )
    downgraded = [each for each in made if each.downgraded]
    if downgraded and len({each.model_requested for each in made}) == 1:
        error.downgrade = downgraded[0]
    raise error


def _in_words(made: jobs.Provenance) -> str:
    revision = f", revision {made.revision}" if made.revision else ""
    prompt = f", prompt {made.prompt!r}" if made.prompt else ""
    return f"{made.model} ({made.dtype}, {made.max_length} tokens{revision}{prompt})"


def with_smaller_model(
    job: jobs.Job, error: MixedModels, settings: Settings, job_id: str
) -> jobs.Job:
    """Return a job that requests all candidates from the smaller model that scored some of them.

    Raises `error` if no smaller model replaced the requested one, or if jobs may not request it.
    """
    if error.downgrade is None or not settings.allows(error.downgrade.model):
        raise error
    return job.model_copy(
        update={"id": job_id, "model": error.downgrade.model, "allow_downgrade": False}
    )


def as_downgraded(result: jobs.JobResult, job_id: str, mixed: MixedModels) -> jobs.JobResult:
    """Return that job's result as the result of job `job_id`, with the reason in its provenance."""
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


def merge_failure(split: jobs.SplitJob, part_id: str, ended: jobs.Failure) -> jobs.Failure:
    """Return the failure of the whole query, given the failure of one part."""
    place = split.part_ids.index(part_id)
    begin, end = split.bounds[place : place + 2]
    where = f"candidates {begin + 1:,} to {end:,} of {split.bounds[-1]:,}"
    return ended.model_copy(update={"job_id": split.job_id, "message": f"{where}: {ended.message}"})


def merge_statuses(split: jobs.SplitJob, parts: Sequence[jobs.JobStatus]) -> jobs.JobStatus:
    """Return the status of the whole query."""
    states = {each.state for each in parts}
    ended = states <= set(jobs.FINAL_STATES)
    first = next((each for each in _BY_WEIGHT if each in states), jobs.JobState.DONE)
    if not ended and jobs.JobState.DONE in states:
        first = jobs.JobState.RUNNING
    starts = [each.started_at for each in parts if each.started_at is not None]
    return jobs.JobStatus(
        job_id=split.job_id,
        state=first,
        pairs=sum(each.pairs for each in parts),
        requests=1,
        attempts=max(each.attempts for each in parts),
        submitted_at=min(each.submitted_at for each in parts),
        started_at=min(starts) if starts else None,
        ended_at=max(each.ended_at or 0.0 for each in parts) if ended else None,
        code=next((each.code for each in parts if each.state is first and each.code), None),
        outcome_kept=all(each.outcome_kept for each in parts),
    )


#: The whole has the first of these states that a part has.
_BY_WEIGHT = (
    jobs.JobState.FAILED,
    jobs.JobState.CANCELLED,
    jobs.JobState.RUNNING,
    jobs.JobState.QUEUED,
)
