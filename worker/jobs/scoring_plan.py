"""Choose the model for a job, score it, and return rankings with their provenance.

Jobs and results are columns here, because an object for each pair would take longer than ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from contract import errors, jobs
from contract.column_values import filled, given
from contract.columns import JobColumns, ResultColumns
from contract.store.attempts import Started
from worker.engine import ranking
from worker.engine.scoring_version import SCORING_VERSION
from worker.jobs.leases import Lease
from worker.runtime.models import LoadedModels

if TYPE_CHECKING:
    from worker.engine.scorer import Scorer
    from worker.engine.unique_pairs import ScoredPairs

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


def choose(
    job: JobColumns, started: Started, default: str, models: LoadedModels, max_attempts: int
) -> ScoringPlan:
    """Plan to use the requested model, or a smaller one after lack of memory or time or a crash."""
    requested = job.model or default
    smaller = models.downgrade_model if job.allow_downgrade else None
    reason = _downgrade_reason(started, is_last=started.attempts >= max_attempts)
    small_batches = reason == errors.OutOfMemory.code or (started.deaths > 0 and reason is not None)
    if smaller is None or smaller == requested:
        return ScoringPlan(requested, requested, None, small_batches, None)
    if reason is None:
        return ScoringPlan(requested, requested, None, small_batches, smaller)
    return ScoringPlan(requested, smaller, reason, small_batches, None)


def _downgrade_reason(started: Started, *, is_last: bool) -> str | None:
    """Return the reason to score the job with a smaller model, if there is one."""
    if started.downgrade == jobs.GPU_FAILED:
        # A GPU that failed once says nothing about the memory that the model needs. But a job must
        # not end without having been tried with the smaller model.
        return jobs.WORKER_DIED if started.deaths > 1 or is_last else None
    return started.downgrade or (jobs.WORKER_DIED if started.deaths else None)


def score(
    job: JobColumns, plan: ScoringPlan, started: Started, lease: Lease, models: LoadedModels
) -> ResultColumns:
    """Score the job. Raises `ScoringError`, `OutOfMemory`, `TimeLimitExceeded` or `Superseded`."""
    with models.keeping(plan.model, lease.check_counts):
        with lease.soft_limit:
            scorer = models.scorer(plan.model)
        pairs = list(job.each_pair())
        with lease.scoring_slot(), lease.soft_limit:
            scores = scorer.score_pairs(
                pairs, lease.check, passages=job.passages, small_batches=plan.small_batches
            )
        provenance = _provenance(job, plan, started, lease, scorer, scores)
    return _rank(job, scores, provenance)


def _provenance(
    job: JobColumns,
    plan: ScoringPlan,
    started: Started,
    lease: Lease,
    scorer: Scorer,
    scores: ScoredPairs,
) -> jobs.Provenance:
    return jobs.Provenance(
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
        prompt=scorer.prompt,
        pairs=job.pairs,
        unique_pairs=scores.unique_pairs,
        tokens=scores.tokens,
        truncated=sum(scores.truncated),
        passages=job.passages.key if job.passages else None,
        passages_scored=scores.passages_scored,
        lost_tokens=sum(scores.lost),
        seconds=lease.seconds,
    )


def _rank(job: JobColumns, scores: ScoredPairs, provenance: jobs.Provenance) -> ResultColumns:
    bounds, top_ks = job.bounds, filled(job.top_ks, len(job.queries))
    best = [
        ranking.best_indexes(scores.logits[begin:end], top_k)
        for (begin, end), top_k in zip(pairwise(bounds), top_ks, strict=True)
    ]
    truncated, passages = scores.truncated, scores.passages
    shortened = passages.shortened if passages else []
    rows = [begin + index for begin, kept in zip(bounds, best, strict=False) for index in kept]
    return ResultColumns.model_construct(
        job_id=job.id,
        provenance=provenance,
        query_ids=job.query_ids,
        truncated=[sum(truncated[begin:end]) for begin, end in pairwise(bounds)],
        lost_tokens=[sum(scores.lost[begin:end]) for begin, end in pairwise(bounds)],
        shortened=(
            [sum(shortened[begin:end]) for begin, end in pairwise(bounds)] if passages else None
        ),
        counts=list(map(len, best)),
        ids=[job.ids[row] for row in rows],
        indexes=list(chain.from_iterable(best)),
        scores=[scores.logits[row] for row in rows],
        metadata=given([job.metadata[row] for row in rows]) if job.metadata else None,
        cut=[int(truncated[row]) for row in rows] if any(truncated) else None,
        lost=[scores.lost[row] for row in rows] if any(truncated) else None,
        passages=passages.at(rows) if passages else None,
        scoring_version=SCORING_VERSION,
    )
