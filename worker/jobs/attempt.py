"""One attempt at a job, and the ways it can end.

Each way to end an attempt does everything that belongs to it: it records the outcome, writes a log
line, and sends an event to Flower.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore

from contract import errors, jobs
from contract.columns import JobColumns, ResultColumns
from contract.store import attempts, outcomes, statuses
from contract.store.attempts import Started
from worker.jobs import leases
from worker.jobs.scoring_plan import ScoringPlan
from worker.monitoring import job_log, task_events
from worker.monitoring.job_log import Event, JobFields
from worker.runtime import envelope, restart
from worker.runtime.context import WorkerContext

logger = logging.getLogger(__name__)

#: Delay before the next attempt, which uses another model.
DOWNGRADE_DELAY_S = 1


class Attempt:
    """The attempt of `task` at the job of its message."""

    def __init__(self, task: Task, job_id: str) -> None:
        self.job_id = job_id
        self.token = leases.new_token(task.request.hostname)
        self.context: WorkerContext = task.app.context
        #: The fields for log lines that are known so far.
        self.fields: JobFields = {}
        self._task = task

    def start(self) -> Started:
        """Count the attempt and take the lease, unless the job has ended or is leased."""
        settings = self.context.settings
        started = self.context.retry_until_available(
            attempts.start(
                self.context.schema,
                self.job_id,
                self.token,
                max_attempts=settings.max_attempts,
                lease_s=settings.lease_s,
            )
        )
        self.fields = {"attempts": started.attempts}
        return started

    def announce(self, job: JobColumns, plan: ScoringPlan) -> None:
        """Report that scoring starts, and with which model."""
        self.fields |= {"pairs": job.pairs, "model": plan.model}
        job_log.log(Event.RUNNING, self.job_id, self.fields, code=plan.reason)
        if plan.reason is not None:
            task_events.send_downgraded(self._task, plan.model, plan.reason)

    def finish(self, result: jobs.JobResult | ResultColumns) -> dict[str, Any]:
        """Record the result, and return a summary for Flower.

        Raises `Ignore` if the job has already ended in another way.
        """
        made = result.provenance
        self.fields |= {"seconds": made.seconds, "truncated": made.truncated}
        if made.passages_scored is not None:
            self.fields["passages"] = made.passages_scored
        if self._record(result):
            instead = f"downgraded from {made.model_requested}" if made.downgraded else None
            job_log.log(Event.DONE, self.job_id, self.fields, code=made.reason, reason=instead)
        elif self.log_other_end() is not jobs.JobState.DONE:
            raise Ignore
        return summary(made)

    def fail(self, error: errors.RerankError) -> errors.RerankError:
        """Record a failure, and return the error to raise.

        Raises `Ignore` if the job has already ended in another way.
        """
        failure = error.as_failure(self.job_id, self.fields["attempts"])
        if self._record(failure, dead_letter=error.dead_letter):
            job_log.log(Event.FAILED, self.job_id, self.fields, code=error.code, reason=str(error))
        elif self.log_other_end() is not jobs.JobState.FAILED:
            raise Ignore
        return error

    def downgrade(self, error: errors.RerankError, model: str) -> Exception:
        """Leave the job to another attempt with another model, and return what to raise."""
        self.context.retry_until_available(
            attempts.release(
                self.context.schema,
                self.job_id,
                self.token,
                downgrade=error.code,
                counts=self.context.counters.take(),
            )
        )
        reason = f"retrying with {model}: {error}"
        job_log.log(Event.DOWNGRADED, self.job_id, self.fields, code=error.code, reason=reason)
        return self._retry(DOWNGRADE_DELAY_S, error, shadow=task_events.name_with(model))

    def defer(self, in_s: float, why: str, error: Exception | None = None) -> Exception:
        """Have the message delivered again later, and return what to raise."""
        retry = self._retry(in_s, error)
        job_log.log(Event.DEFERRED, self.job_id, reason=f"{why}; retrying in {in_s:g} s")
        return retry

    def interrupt(self, error: MemoryError) -> errors.OutOfMemory:
        """End without recording an outcome, which would need memory; return what to raise."""
        ours = errors.OutOfMemory(f"job {self.job_id}: {error}")
        with suppress(MemoryError):
            job_log.log(Event.INTERRUPTED, self.job_id, code=ours.code, reason=str(error))
        return ours

    def end_process(self, error: errors.ScoringError) -> NoReturn:
        """End this process, whose GPU has failed, so that another one can try the job again.

        The main process notices, and replaces a child. The attempt has been counted, so a job that
        makes a GPU fail each time is given up.
        """
        code = restart.EXIT_GPU_FAILED
        self.context.best_effort(
            attempts.note_gpu_failure(self.context.schema, self.job_id, self.token)
        )
        job_log.log(Event.INTERRUPTED, self.job_id, self.fields, code=error.code, reason=str(error))
        logger.critical(
            "Process exiting with code %d: its GPU has failed, and only another process can use it"
            " again. Job %s will be tried again. Reason: %s",
            code,
            self.job_id,
            error,
        )
        logging.shutdown()
        os._exit(code)

    def skip(self, reason: str, code: str | None) -> Ignore:
        """Skip a job that has already ended, and return what to raise.

        Flower continues to show the outcome of the job.
        """
        job_log.log(Event.SKIPPED, self.job_id, code=code, reason=reason)
        if code == jobs.JobState.CANCELLED:
            task_events.send_cancelled(self._task)
        return Ignore()

    def log_other_end(self) -> jobs.JobState | None:
        """Log that the job ended while it was being scored, and return how, or None if unknown."""
        status = self.context.best_effort(statuses.fetch(self.context.schema, self.job_id))
        state = status.state if status else None
        if state is jobs.JobState.CANCELLED:
            job_log.log(Event.CANCELLED, self.job_id, self.fields)
            task_events.send_cancelled(self._task)
        else:
            job_log.log(
                Event.SKIPPED, self.job_id, self.fields, reason="the job ended during this attempt"
            )
        return state

    def _record(self, outcome: jobs.Outcome | ResultColumns, *, dead_letter: bool = False) -> bool:
        """Record an outcome, and return whether the job had none before."""
        return self.context.retry_until_available(
            outcomes.finish(
                self.context.schema,
                outcome,
                self.token,
                dead_letter=dead_letter,
                counts=self.context.counters.take(),
            )
        )

    def _retry(self, in_s: float, error: Exception | None, **options: Any) -> Exception:
        retry: Exception = self._task.retry(
            exc=error,
            countdown=in_s,
            headers={envelope.DELAY_HEADER: in_s},
            throw=False,
            **options,
        )
        return retry


def summary(provenance: jobs.Provenance) -> dict[str, Any]:
    """Return what Flower's Result column shows, with the most important field first."""
    return {
        "model": provenance.model,
        "downgraded": provenance.downgraded,
        "pairs": provenance.pairs,
        "pairs_per_s": round(provenance.pairs / max(provenance.seconds, 1e-6), 1),
        "truncated": provenance.truncated,
        "seconds": round(provenance.seconds, 3),
    }
