"""The one task: score a job and put its outcome on record.

A job ends here in exactly one way: `Records.finish` with a result, or with a failure that has a
code. What Celery stores beside it is a summary for Flower.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import redis
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import Task, signals
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from contract import errors, jobs, limits, names
from contract.records import Records, Started
from contract.store import JobStore
from worker import children, ranking
from worker.celery import app, settings

if TYPE_CHECKING:
    from worker.scorer import Scorer, Scores

logger = logging.getLogger(__name__)

records = Records(settings)


@cache
def store() -> JobStore:
    """This process's store. It waits for about a minute for a Redis that went away."""
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=10,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=8, base=0.5), 10),
        client_name="rerankq-store",
    )
    return JobStore(client, records)


def scorer_of(model: str) -> Scorer:
    """The scorer of `model` in this child, loaded once. Raises `ModelUnavailable`."""
    # Here and not above: Flower imports this module, on machines that have no torch.
    from worker import scorers

    return scorers.get(
        model, settings.device, children.threads(), settings.max_batch_tokens, settings.dtype
    )


@app.task(
    bind=True,
    name=names.SCORE_TASK,
    max_retries=settings.max_attempts - 1,
    default_retry_delay=2,
    resultrepr_maxsize=512,
    throws=(errors.RerankError,),
)
def score(self: Task, job_id: str, **counts: int) -> dict[str, Any]:
    """Score job `job_id`; the counts are for Flower, the payload says what counts.

    Gives a summary. Raises the error that stands in the failure record.
    """
    try:
        return _attempt(job_id)
    except errors.RedisUnavailable as error:
        # Not the job's fault, and no outcome could be recorded: it is to be tried again.
        raise self.retry(exc=error, countdown=5) from error


def _attempt(job_id: str) -> dict[str, Any]:
    """Bring the job to its end, if it has none yet."""
    began = time.monotonic()
    started = store().do(records.start(job_id))
    if not started.attempt:
        logger.info("Job %s has ended already: nothing to do", job_id)
        return {"skipped": True}
    try:
        result = _score(job_id, started, began)
    except errors.RedisUnavailable:
        raise
    # Whatever it is, it is the end of this job only: a MemoryError that left the task would be the
    # end of the worker.
    except Exception as error:  # noqa: BLE001
        ours = _explained(error)
        fail(job_id, ours, started.attempt)
        raise ours from (None if ours is error else error)
    if not store().do(records.finish(result)):
        logger.info("Job %s was ended by another while it was scored", job_id)
    return summary(result.provenance)


def _explained(error: Exception) -> errors.RerankError:
    """The error to put on record for one that ended an attempt."""
    if isinstance(error, errors.RerankError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        return errors.TimeLimitExceeded(
            f"not done after {settings.soft_time_limit_s} s (RERANKQ_SOFT_TIME_LIMIT_S):"
            " send fewer pairs in a job"
        )
    return errors.ScoringError(f"unexpected {type(error).__name__}: {error}")


@signals.task_failure.connect
def _record_killed(task_id: str, exception: BaseException, **_: Any) -> None:
    """Record, in the parent, the ends that a child could not record because it was killed."""
    if isinstance(exception, TimeLimitExceeded):
        limit = settings.time_limit_s
        error: errors.RerankError = errors.TimeLimitExceeded(
            f"killed after the hard time limit of {limit} s (RERANKQ_TIME_LIMIT_S)"
        )
    elif isinstance(exception, WorkerLostError):
        error = errors.AttemptsExhausted(f"its worker process was killed each time: {exception}")
    else:
        return
    fail(task_id, error, attempts=store().do(records.status(task_id)).attempts)


def _score(job_id: str, started: Started, began: float) -> jobs.JobResult:
    if started.attempt > settings.max_attempts:
        raise errors.AttemptsExhausted(
            f"started {settings.max_attempts} times and never came to an end"
            " (RERANKQ_MAX_ATTEMPTS): it may be what ends its workers"
        )
    job = records.job(job_id, started.payload)
    limits.check(job, settings)
    scorer = scorer_of(job.model or settings.cross_encoder_model)
    scores = scorer.score_counted(
        [(each.query, candidate.text) for each in job.requests for candidate in each.candidates]
    )
    return jobs.JobResult(
        job_id=job_id,
        rankings=_rankings(job, scores),
        provenance=_provenance(job, scorer, scores, started.attempt, time.monotonic() - began),
    )


def _rankings(job: jobs.Job, scores: Scores) -> tuple[jobs.Ranking, ...]:
    rankings = []
    start = 0
    for request in job.requests:
        end = start + len(request.candidates)
        cut = sum(scores.cut[start:end])
        rankings.append(ranking.rank(request, scores.logits[start:end], cut))
        start = end
    return tuple(rankings)


def _provenance(
    job: jobs.Job, scorer: Scorer, scores: Scores, attempt: int, seconds: float
) -> jobs.Provenance:
    return jobs.Provenance(
        model_requested=job.model or settings.cross_encoder_model,
        model=scorer.model,
        attempts=attempt,
        backend=scorer.backend,
        device=scorer.device,
        dtype=scorer.dtype,
        max_length=scorer.max_length,
        pairs=job.pairs,
        unique_pairs=scores.unique_pairs,
        tokens=scores.tokens,
        truncated=scores.truncated,
        seconds=seconds,
    )


def summary(provenance: jobs.Provenance) -> dict[str, Any]:
    """What Flower's Result column shows, the most telling first."""
    return {
        "model": provenance.model,
        "downgraded": provenance.downgraded,
        "pairs": provenance.pairs,
        "pairs_per_s": round(provenance.pairs / max(provenance.seconds, 1e-6), 1),
        "truncated": provenance.truncated,
        "seconds": round(provenance.seconds, 3),
    }


def fail(job_id: str, error: errors.RerankError, attempts: int) -> None:
    """Put a failure on record, unless the job has ended already."""
    store().do(records.finish(jobs.Failure.of(job_id, error, attempts)))
    logger.warning("Job %s failed (%s): %s", job_id, error.code, error)
