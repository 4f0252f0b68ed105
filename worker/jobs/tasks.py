"""The one task: score a job and put its outcome on record.

A job ends here in exactly one way: `outcomes.finish` with a result, or with a failure that has a
code. What Celery stores beside it is a summary for Flower.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, NoReturn

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore

from contract import errors, jobs, names
from contract.store import attempts, outcomes, statuses
from contract.store.attempts import Started, Verdict
from worker.jobs import leases, scoring_plan
from worker.jobs.leases import Lease
from worker.monitoring import job_log, task_events
from worker.monitoring.job_log import Event, JobFields
from worker.runtime import counters, envelope
from worker.runtime.app import app, settings
from worker.runtime.connection import best_effort, retry_until_available, schema

logger = logging.getLogger(__name__)

#: Before the next attempt, in which another model scores.
DOWNGRADE_DELAY_S = 1

#: Of a job that another has ended.
ENDED_MEANWHILE = "ended meanwhile"


@app.task(
    bind=True,
    name=names.SCORE_TASK,
    Request="worker.jobs.child_outcomes:ChildOutcomeRequest",
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
        ours = errors.OutOfMemory(f"job {job_id}: {error}")
        # One that left the task would be the end of the worker.
        with suppress(MemoryError):
            job_log.log(Event.INTERRUPTED, job_id, code=ours.code, reason=str(error))
        raise ours from None
    except errors.RedisUnavailable as error:
        # Not the job's fault, and no outcome could be recorded: it is to be tried again.
        in_s = settings.lease_s if isinstance(error, errors.RedisRefused) else 5
        raise _deferred(self, job_id, in_s, str(error), error) from error


def _attempt(task: Task, job_id: str) -> dict[str, Any]:
    """Bring the job to its end, if it has none yet."""
    token = leases.new_token(task.request.hostname)
    started = retry_until_available(
        attempts.start(
            schema,
            job_id,
            token,
            max_attempts=settings.max_attempts,
            lease_s=settings.lease_s,
        )
    )
    match started.verdict:
        case Verdict.UNREADABLE:
            key = schema.keys.job(job_id)
            logger.error("Job %s is given up: key %s holds no record of a job", job_id, key)
            raise Ignore
        case Verdict.UNKNOWN:
            # A late copy of a message, or a forged one. Recording anything would give a job that
            # was forgotten a second end.
            job_log.log(Event.SKIPPED, job_id, code="unknown", reason="there is no record of it")
            raise Ignore
        case Verdict.ENDED:
            _skip(task, job_id, started.ended)
        case Verdict.HELD:
            # Another has it, and may yet die: to acknowledge this message would be to take away
            # what brings the job back, which is one record for all deliveries of a message.
            raise _deferred(task, job_id, settings.lease_s, "another attempt is under way")
        case Verdict.SILENT:
            raise _deferred(task, job_id, settings.lease_s / 3, "an attempt may have died")
        case Verdict.EXHAUSTED:
            raise fail(task, job_id, _exhausted(started), token, {"attempts": started.attempts})
    with leases.renewed(job_id, token) as lease:
        return _score(task, job_id, started, lease)


def _score(task: Task, job_id: str, started: Started, lease: Lease) -> dict[str, Any]:
    how = None
    fields: JobFields = {"attempts": started.attempts}
    try:
        job = scoring_plan.job_of(job_id, started)
        how = scoring_plan.plan(job, started)
        fields |= {"pairs": job.pairs, "model": how.model}
        job_log.log(Event.RUNNING, job_id, fields, code=how.reason)
        if how.reason is not None:
            task_events.downgraded(task, how.model, how.reason)
        result = scoring_plan.result(job, how, started, lease)
    except leases.Superseded:
        _say_ended(task, job_id, fields | {"seconds": lease.seconds})
        raise Ignore from None
    # Whatever it is, it is the end of this job only.
    except Exception as error:  # noqa: BLE001
        ours = _explained(error)
        fields["seconds"] = lease.seconds
        if how is not None and how.instead and isinstance(ours, scoring_plan.DOWNGRADE_AFTER):
            raise _downgraded(task, lease, ours, how.instead, fields) from None
        raise fail(task, job_id, ours, lease.token, fields) from (None if ours is error else error)
    made = result.provenance
    fields |= {"seconds": made.seconds, "truncated": made.truncated}
    if retry_until_available(outcomes.finish(schema, result, lease.token, counts=counters.take())):
        instead = f"instead of {how.requested}" if made.downgraded else None
        job_log.log(Event.DONE, job_id, fields, code=made.reason, reason=instead)
    elif _say_ended(task, job_id, fields) is not jobs.JobState.DONE:
        raise Ignore
    return summary(made)


def _deferred(
    task: Task, job_id: str, in_s: float, why: str, error: Exception | None = None
) -> Exception:
    """Have the message come again later; gives what to raise."""
    retry: Exception = task.retry(
        exc=error, countdown=in_s, headers={envelope.DELAY: in_s}, throw=False
    )
    job_log.log(Event.DEFERRED, job_id, reason=f"{why}; tried again in {in_s:g} s")
    return retry


def _say_ended(task: Task, job_id: str, fields: JobFields) -> jobs.JobState | None:
    """Say of a job that it was ended while it was scored; gives how, if that is known."""
    status = best_effort(statuses.fetch(schema, job_id))
    state = status.state if status else None
    if state is jobs.JobState.CANCELLED:
        job_log.log(Event.CANCELLED, job_id, fields)
        task_events.cancelled(task)
    else:
        job_log.log(Event.SKIPPED, job_id, fields, reason=ENDED_MEANWHILE)
    return state


def _skip(task: Task, job_id: str, ended: jobs.JobState | None) -> NoReturn:
    """Leave a job that had ended: how it did is what Flower goes on to show."""
    job_log.log(Event.SKIPPED, job_id, code=ended, reason="it has ended already")
    if ended is jobs.JobState.CANCELLED:
        task_events.cancelled(task)
    raise Ignore


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


def _downgraded(
    task: Task, lease: Lease, error: errors.RerankError, model: str, fields: JobFields
) -> Exception:
    """Hand the job over to another attempt, with another model; gives what to raise."""
    over = attempts.release(
        schema, lease.job_id, lease.token, downgrade=error.code, counts=counters.take()
    )
    retry_until_available(over)
    reason = f"goes to {model}: {error}"
    job_log.log(Event.DOWNGRADED, lease.job_id, fields, code=error.code, reason=reason)
    retry: Exception = task.retry(
        exc=error,
        countdown=DOWNGRADE_DELAY_S,
        headers={envelope.DELAY: DOWNGRADE_DELAY_S},
        shadow=task_events.name_with(model),
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
    task: Task, job_id: str, error: errors.RerankError, token: str, fields: JobFields
) -> errors.RerankError:
    """Put a failure on record; gives the error. Raises `Ignore` if the job has another end."""
    failure = error.as_failure(job_id, fields["attempts"])
    over = outcomes.finish(
        schema, failure, token, dead_letter=error.dead_letter, counts=counters.take()
    )
    if retry_until_available(over):
        job_log.log(Event.FAILED, job_id, fields, code=error.code, reason=str(error))
    elif _say_ended(task, job_id, fields) is not jobs.JobState.FAILED:
        raise Ignore
    return error
