"""Choose the model for a job, score it, and return rankings with their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import errors, jobs
from contract.store.attempts import Started
from worker.engine import ranking
from worker.jobs.leases import Lease
from worker.runtime.models import LoadedModels

if TYPE_CHECKING:
    from worker.engine.scorer import ScoredPairs

#: Errors after which it is worth trying another model.
DOWNGRADE_AFTER = (errors.OutOfMemory, errors.TimeLimitExceeded)


@dataclass(frozen=True)
class ScoringPlan:
    """The model with which an attempt scores its job, and the reason."""

    requested: str
    model: str
    #: Why the model is not the requested one.
    reason: str | None
    #: Whether the previous attempt may have been killed for its memory.
    small_batches: bool
    #: The model for the next attempt if this one runs out of memory or time.
    instead: str | None


def choose(job: jobs.Job, started: Started, default: str, models: LoadedModels) -> ScoringPlan:
    """Plan to use the requested model, or a smaller one after lack of memory or time or a crash."""
    requested = job.model or default
    smaller = models.downgrade_model if job.allow_downgrade else None
    reason = started.downgrade or (jobs.WORKER_DIED if started.deaths else None)
    small_batches = started.deaths > 0 or reason == errors.OutOfMemory.code
    if smaller is None or smaller == requested:
        return ScoringPlan(requested, requested, None, small_batches, None)
    if reason is None:
        return ScoringPlan(requested, requested, None, small_batches, smaller)
    return ScoringPlan(requested, smaller, reason, small_batches, None)


def score(
    job: jobs.Job, plan: ScoringPlan, started: Started, lease: Lease, models: LoadedModels
) -> jobs.JobResult:
    """Score the job. Raises `ScoringError`, `OutOfMemory`, `TimeLimitExceeded` or `Superseded`."""
    scorer = models.scorer(plan.model)
    pairs = [(each.query, candidate.text) for each in job.requests for candidate in each.candidates]
    with lease.scoring_slot():
        scores = scorer.score_pairs(pairs, lease.check, small_batches=plan.small_batches)
    rankings = _rankings(job, scores)
    return jobs.JobResult(
        job_id=job.id,
        rankings=rankings,
        provenance=jobs.Provenance(
            model_requested=plan.requested,
            model=scorer.model,
            revision=scorer.revision,
            downgraded=plan.reason is not None,
            reason=plan.reason,
            attempts=started.attempts,
            backend=scorer.backend,
            device=scorer.device,
            dtype=scorer.dtype,
            max_length=scorer.max_length,
            pairs=job.pairs,
            unique_pairs=scores.unique_pairs,
            tokens=scores.tokens,
            truncated=sum(scores.truncated),
            seconds=lease.seconds,
        ),
    )


def _rankings(job: jobs.Job, scores: ScoredPairs) -> tuple[jobs.Ranking, ...]:
    rankings = []
    start = 0
    for request in job.requests:
        end = start + len(request.candidates)
        truncated = sum(scores.truncated[start:end])
        rankings.append(ranking.rank(request, scores.logits[start:end], truncated))
        start = end
    return tuple(rankings)
