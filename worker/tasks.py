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
from celery import Task
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from contract import errors, jobs, limits, names
from contract.records import Records
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

    return scorers.get(model, settings.device, children.threads(), settings.max_batch_tokens)


class ScoreTask(Task):
    """Records the ends that a child cannot record itself, because it was killed."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called in the parent for a lost child and for the hard time limit."""
        if isinstance(exc, TimeLimitExceeded):
            limit = settings.time_limit_s
            error: errors.RerankError = errors.TimeLimitExceeded(
                f"killed after the hard time limit of {limit} s (RERANKQ_TIME_LIMIT_S)"
            )
        elif isinstance(exc, WorkerLostError):
            error = errors.AttemptsExhausted(f"its worker process was killed each time: {exc}")
        else:
            return
        fail(task_id, error, attempts=1 + self.request.retries)


@app.task(
    bind=True,
    base=ScoreTask,
    name=names.SCORE_TASK,
    max_retries=settings.max_attempts - 1,
    default_retry_delay=2,
    resultrepr_maxsize=512,
    throws=(errors.RerankError,),
)
def score(self: ScoreTask, job_id: str, **counts: int) -> dict[str, Any]:
    """Score job `job_id`; the counts are for Flower, the payload says what counts.

    Gives a summary. Raises the error that stands in the failure record.
    """
    began = time.monotonic()
    attempt = 0
    try:
        attempt = store().do(records.start(job_id))
        if not attempt:
            logger.info("Job %s has ended already: nothing to do", job_id)
            return {"skipped": True}
        result = _score(job_id, attempt, began)
        recorded = store().do(records.finish(result))
    except errors.RedisUnavailable as error:
        # Not the job's fault, and no failure could be recorded: the message goes back.
        raise self.retry(exc=error, countdown=5) from error
    except errors.RerankError as error:
        fail(job_id, error, attempt)
        raise
    except SoftTimeLimitExceeded as error:
        limit = settings.soft_time_limit_s
        late = errors.TimeLimitExceeded(
            f"not done after {limit} s (RERANKQ_SOFT_TIME_LIMIT_S): send fewer pairs in a job"
        )
        fail(job_id, late, attempt)
        raise late from error
    # The last line of defence: no error of ours may leave a job without an end, and a MemoryError
    # that left the task would end the worker.
    except Exception as error:
        unexpected = errors.ScoringError(f"unexpected {type(error).__name__}: {error}")
        fail(job_id, unexpected, attempt)
        raise unexpected from error
    if not recorded:
        logger.info("Job %s was ended by another while it was scored", job_id)
    return summary(result.provenance)


def _score(job_id: str, attempt: int, began: float) -> jobs.JobResult:
    if attempt > settings.max_attempts:
        raise errors.AttemptsExhausted(
            f"started {settings.max_attempts} times and never came to an end"
            " (RERANKQ_MAX_ATTEMPTS): it may be what ends its workers"
        )
    job = store().do(records.payload(job_id))
    limits.check(job, settings)
    scorer = scorer_of(job.model or settings.cross_encoder_model)
    scores = scorer.score_counted(
        [(each.query, candidate.text) for each in job.requests for candidate in each.candidates]
    )
    return jobs.JobResult(
        job_id=job_id,
        rankings=_rankings(job, scores.logits),
        provenance=_provenance(job, scorer, scores, attempt, time.monotonic() - began),
    )


def _rankings(job: jobs.Job, logits: list[float]) -> tuple[jobs.Ranking, ...]:
    rankings = []
    start = 0
    for request in job.requests:
        end = start + len(request.candidates)
        rankings.append(ranking.rank(request, logits[start:end]))
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
