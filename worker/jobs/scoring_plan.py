"""From a job to its result: which model scores it, and where the scores came from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from billiard.exceptions import SoftTimeLimitExceeded

from contract import errors, jobs, limits
from contract.store import payloads
from contract.store.attempts import Started
from worker.engine import ranking
from worker.jobs.leases import Lease
from worker.runtime import pool
from worker.runtime.app import settings
from worker.runtime.connection import schema

if TYPE_CHECKING:
    from worker.engine.scorer import ScoredPairs, Scorer
    from worker.engine.scorer_cache import ScorerCache

logger = logging.getLogger(__name__)

#: For these another model is worth a try.
DOWNGRADE_AFTER = (errors.OutOfMemory, errors.TimeLimitExceeded)


@dataclass(frozen=True)
class Plan:
    """How an attempt scores its job."""

    requested: str
    model: str
    #: Why it is not the model requested.
    reason: str | None
    #: The attempt before may have died of its memory.
    small_batches: bool
    #: What else could score it, should this run out of memory or time.
    instead: str | None


@cache
def scorers() -> ScorerCache:
    """Return the models of this process."""
    # Here and not above: Flower imports this module, on machines that have no torch.
    from worker.engine.scorer_cache import ScorerCache
    from worker.runtime.engine_observer import WorkerObserver

    return ScorerCache(WorkerObserver(), passed_through=(SoftTimeLimitExceeded,))


def scorer_for(model: str) -> Scorer:
    """Return the scorer of `model` in this child, loaded once. Raises `ModelUnavailable`.

    The default model has to read as many tokens as `max_length` says; others, up to their own
    limit.
    """
    from worker.engine.scorer_cache import require_length

    scorer = scorers().get(
        model,
        settings.device,
        pool.threads(),
        settings.max_batch_tokens,
        settings.dtype,
        settings.max_length,
    )
    if model == settings.cross_encoder_model:
        require_length(scorer, settings.max_length)
    return scorer


@cache
def downgrade_model() -> str | None:
    """The downgrade model, loaded; None if there is none.

    Raises `ModelUnavailable` if it was chosen. A default that is nowhere is no reason not to work.
    """
    name = settings.downgrade_to
    if name is None:
        return None
    try:
        scorer_for(name)
    except errors.ModelUnavailable as error:
        if settings.downgrade_is_chosen:
            raise
        logger.warning(
            "No downgrade model: a job that runs out of memory or time will fail. Set"
            " RERANKQ_DOWNGRADE_MODEL to one that can be loaded, or to none. %s",
            error,
        )
        return None
    return name


def plan(job: jobs.Job, started: Started) -> Plan:
    """The model asked for; after a lack of memory or time, or a death, the downgrade model."""
    requested = job.model or settings.cross_encoder_model
    smaller = downgrade_model() if job.allow_downgrade else None
    reason = started.downgrade or (jobs.WORKER_DIED if started.deaths else None)
    small_batches = started.deaths > 0 or reason == errors.OutOfMemory.code
    if smaller is None or smaller == requested:
        return Plan(requested, requested, None, small_batches, None)
    if reason is None:
        return Plan(requested, requested, None, small_batches, smaller)
    return Plan(requested, smaller, reason, small_batches, None)


def job_of(job_id: str, started: Started) -> jobs.Job:
    """The job to be scored. Raises `PayloadMissing`, `PayloadInvalid` or `InvalidInput`."""
    job = payloads.decode(schema.settings, job_id, started.payload)
    limits.check(job, settings)
    return job


def result(job: jobs.Job, how: Plan, started: Started, lease: Lease) -> jobs.JobResult:
    """Score the job. Raises `ScoringError`, `OutOfMemory`, `TimeLimitExceeded` or `Superseded`."""
    scorer = scorer_for(how.model)
    pairs = [(each.query, candidate.text) for each in job.requests for candidate in each.candidates]
    with lease.scoring_slot():
        scores = scorer.score_pairs(pairs, lease.check, small_batches=how.small_batches)
    rankings = _rankings(job, scores)
    return jobs.JobResult(
        job_id=job.id,
        rankings=rankings,
        provenance=jobs.Provenance(
            model_requested=how.requested,
            model=scorer.model,
            downgraded=how.reason is not None,
            reason=how.reason,
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
