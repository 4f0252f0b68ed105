"""The Celery task: score a job and record its outcome.

A job ends in exactly one way: `outcomes.finish` with a result, or with a failure that has a code.
Celery's own result is only a summary for Flower.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore

from contract import errors, limits, names
from contract.printable import counted
from contract.store import encoding
from contract.store.attempts import Started, Verdict
from worker.engine.cuda_errors import GpuFailed
from worker.jobs import scoring_plan
from worker.jobs.attempt import Attempt
from worker.jobs.leases import Lease, Leases, Superseded, time_limit_error
from worker.runtime.app import WorkerApp
from worker.runtime.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Delay before a job is tried again while Redis is unavailable.
REDIS_AWAY_DELAY_S = 5.0


class ScoreTask(Task):
    """The task's class, which manages the leases of its attempts."""

    leases: Leases


def register(app: WorkerApp) -> Task:
    """Register the task with an app, and return it."""
    return app.task(
        score,
        name=names.SCORE_TASK,
        bind=True,
        base=ScoreTask,
        shared=False,
        lazy=False,
        leases=Leases(app.context),
        Request="worker.jobs.child_outcomes:ChildOutcomeRequest",
        max_retries=None,  # attempts are counted with the job, however its message arrived
        default_retry_delay=2,
        resultrepr_maxsize=512,
        throws=(errors.RerankError,),
    )


def score(self: ScoreTask, job_id: str, **sizes: int) -> dict[str, Any]:
    """Score job `job_id`; its sizes are for Flower, the stored payload decides.

    Returns a summary. Raises the error in the failure record.
    """
    self.leases.soft_limit.handle_signal()
    attempt = Attempt(self, job_id)
    try:
        return _run(attempt, self.leases)
    # A MemoryError that leaves the task would end the worker.
    except MemoryError as error:
        raise attempt.interrupt(error) from None
    except errors.RedisUnavailable as error:
        # This is not the job's fault, and no outcome could be recorded, so try the job again.
        refused = isinstance(error, errors.RedisRefused)
        in_s = attempt.context.settings.lease_s if refused else REDIS_AWAY_DELAY_S
        raise attempt.defer(in_s, str(error), error) from error


def _run(attempt: Attempt, held: Leases) -> dict[str, Any]:
    """Run the job, unless it has already ended."""
    started, lease_s = attempt.start(), attempt.context.settings.lease_s
    match started.verdict:
        case Verdict.UNREADABLE:
            key = attempt.context.schema.keys.job(attempt.job_id)
            logger.error(
                "Discarding the message of job %s: key %s does not hold a job record",
                attempt.job_id,
                key,
            )
            raise Ignore
        case Verdict.UNKNOWN:
            # A late copy of a message, or a forged one. Recording an outcome would create a second
            # one for a job whose record was deleted.
            raise attempt.skip("there is no record of this job", "unknown")
        case Verdict.ENDED:
            raise attempt.skip("the job has already ended", started.ended)
        case Verdict.HELD:
            # Another attempt has the job and may still die. Do not acknowledge this message: all
            # deliveries of a message share one record, which Celery needs to restore it.
            raise attempt.defer(lease_s, "another attempt is running")
        case Verdict.SILENT:
            raise attempt.defer(lease_s / 3, "the previous attempt may have died")
        case Verdict.EXHAUSTED:
            raise attempt.fail(_exhausted(started))
    with held.renewed(held.lease(attempt.job_id, attempt.token)) as lease:
        return _score(attempt, started, lease)


def _score(attempt: Attempt, started: Started, lease: Lease) -> dict[str, Any]:
    context, plan = attempt.context, None
    try:
        settings = context.settings
        job = encoding.decode_job(settings, attempt.job_id, started.payload)
        limits.check(job, settings)
        plan = scoring_plan.choose(
            job, started, settings.cross_encoder_model, context.models, settings.max_attempts
        )
        attempt.announce(job, plan)
        result = scoring_plan.score(job, plan, started, lease, context.models)
    except Superseded:
        attempt.fields["seconds"] = lease.seconds
        attempt.log_other_end()
        raise Ignore from None
    # Whatever the error is, it ends only this job.
    except Exception as error:  # noqa: BLE001
        ours = _translated(error, context.settings)
        if isinstance(ours, GpuFailed):
            attempt.end_process(ours)
        attempt.fields["seconds"] = lease.seconds
        if plan is not None and plan.instead and isinstance(ours, scoring_plan.DOWNGRADE_AFTER):
            raise attempt.downgrade(ours, plan.instead) from None
        raise attempt.fail(ours) from (None if ours is error else error)
    # An earlier version can read only records.
    is_current = encoding.are_columns(started.payload or b"")
    return attempt.finish(result if is_current else result.result().as_before())


def _translated(error: Exception, settings: WorkerSettings) -> errors.RerankError:
    """Return the error to record for one that ended an attempt."""
    if isinstance(error, errors.RerankError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        return time_limit_error(settings)
    if isinstance(error, MemoryError):
        return errors.OutOfMemory(f"out of memory outside the model: {error}")
    return errors.ScoringError(f"unexpected {type(error).__name__}: {error}")


def _exhausted(started: Started) -> errors.AttemptsExhausted:
    deaths = counted(started.deaths, "time")
    killed = f"; its process was killed {deaths}" if started.deaths else ""
    return errors.AttemptsExhausted(
        f"started {counted(started.attempts, 'time')} without finishing"
        f" (RERANKQ_MAX_ATTEMPTS){killed}"
    )
