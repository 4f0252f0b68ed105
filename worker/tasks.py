"""The one task: score a job and put its outcome on record.

A job ends here in exactly one way: `Records.finish` with a result, or with a failure that has a
code. What Celery stores beside it is a summary for Flower.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore

from contract import attempts, errors, jobs, names
from contract.attempts import Started, Verdict
from worker import counts, events, leases, scoring
from worker.celery import app, settings
from worker.connection import in_passing, patiently, records
from worker.leases import Lease

logger = logging.getLogger(__name__)

#: Before the next attempt, in which another model scores.
DOWNGRADE_DELAY_S = 1


@app.task(
    bind=True,
    name=names.SCORE_TASK,
    Request="worker.request:ScoreRequest",
    max_retries=None,  # attempts are counted with the job, whatever way its message took
    default_retry_delay=2,
    resultrepr_maxsize=512,
    throws=(errors.RerankError,),
)
def score(self: Task, job_id: str, **sizes: int) -> dict[str, Any]:
    """Score job `job_id`; its sizes are for Flower, the payload says what counts.

    Gives a summary. Raises the error that stands in the failure record.
    """
    try:
        return _attempt(self, job_id)
    except MemoryError as error:
        # One that left the task would be the end of the worker.
        raise errors.OutOfMemory(f"job {job_id}: {error}") from None
    except errors.RedisUnavailable as error:
        # Not the job's fault, and no outcome could be recorded: it is to be tried again.
        raise self.retry(exc=error, countdown=5) from error


def _attempt(task: Task, job_id: str) -> dict[str, Any]:
    """Bring the job to its end, if it has none yet."""
    token = leases.new_token(task.request.hostname)
    started = patiently(
        attempts.start(
            records,
            job_id,
            token,
            max_attempts=settings.max_attempts,
            lease_s=settings.lease_s,
        )
    )
    match started.verdict:
        case Verdict.ENDED:
            raise _skipped(task, job_id, started.ended)
        case Verdict.HELD:
            # Another has it, and may yet die: to acknowledge this message would be to take away
            # what brings the job back, which is one record for all deliveries of a message.
            raise task.retry(countdown=settings.lease_s)
        case Verdict.SILENT:
            raise task.retry(countdown=settings.lease_s / 3)
        case Verdict.EXHAUSTED:
            raise fail(job_id, _exhausted(started), started, token)
    with leases.kept(job_id, token) as lease:
        return _score(task, job_id, started, lease)


def _score(task: Task, job_id: str, started: Started, lease: Lease) -> dict[str, Any]:
    how = None
    try:
        job = scoring.job_of(job_id, started)
        how = scoring.plan(job, started)
        if how.reason is not None:
            events.downgraded(task, how.model, how.reason)
        result = scoring.result(job, how, started, lease)
    except leases.Superseded:
        status = in_passing(records.status(job_id))
        raise _skipped(task, job_id, status.state if status else None) from None
    # Whatever it is, it is the end of this job only.
    except Exception as error:  # noqa: BLE001
        ours = _explained(error)
        if how is not None and how.instead and isinstance(ours, scoring.DOWNGRADE_AFTER):
            raise _downgraded(task, lease, ours, how.instead) from None
        raise fail(job_id, ours, started, lease.token) from (None if ours is error else error)
    if not patiently(records.finish(result, lease.token, counts=counts.take())):
        logger.info("Job %s was ended by another while it was scored", job_id)
    return summary(result.provenance)


def _skipped(task: Task, job_id: str, state: jobs.JobState | None) -> Ignore:
    """What to raise for a job that has ended: how it did is what Flower goes on to show."""
    logger.info("Job %s has ended already (%s): nothing to do", job_id, state)
    if state is jobs.JobState.CANCELLED:
        events.cancelled(task)
    return Ignore()


def _explained(error: Exception) -> errors.RerankError:
    """The error to put on record for one that ended an attempt."""
    if isinstance(error, errors.RerankError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        return leases.time_limit()
    if isinstance(error, MemoryError):
        return errors.OutOfMemory(f"out of memory outside of the model: {error}")
    return errors.ScoringError(f"unexpected {type(error).__name__}: {error}")


def _exhausted(started: Started) -> errors.AttemptsExhausted:
    killed = f": {started.deaths} times its process was killed" if started.deaths else ""
    return errors.AttemptsExhausted(
        f"started {started.attempts} times (RERANKQ_MAX_ATTEMPTS) and never came to an end{killed}"
    )


def _downgraded(task: Task, lease: Lease, error: errors.RerankError, model: str) -> Exception:
    """Hand the job over to another attempt, with another model; gives what to raise."""
    logger.warning("Job %s (%s), goes to %s: %s", lease.job_id, error.code, model, error)
    over = attempts.release(
        records, lease.job_id, lease.token, downgrade=error.code, counts=counts.take()
    )
    patiently(over)
    retry: Exception = task.retry(
        exc=error,
        countdown=DOWNGRADE_DELAY_S,
        shadow=events.name_with(model),
        throw=False,
    )
    return retry


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


def fail(
    job_id: str, error: errors.RerankError, started: Started, token: str
) -> errors.RerankError:
    """Put a failure on record, unless the job has ended already; gives the error."""
    failure = jobs.Failure.of(job_id, error, started.attempts)
    patiently(records.finish(failure, token, dead_letter=error.dead_letter, counts=counts.take()))
    logger.warning("Job %s failed (%s): %s", job_id, error.code, error)
    return error
