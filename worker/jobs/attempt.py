"""One attempt at one job, and the ways it may end.

Each of them does all that belongs to it: what is put on record, the line of the log, and what
Flower hears.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from contract import errors, jobs
from contract.store import attempts, outcomes, statuses
from contract.store.attempts import Started
from worker.jobs import leases
from worker.jobs.scoring_plan import ScoringPlan
from worker.monitoring import job_log, task_events
from worker.monitoring.job_log import Event, JobFields
from worker.runtime import envelope
from worker.runtime.context import WorkerContext

#: Before the next attempt, in which another model scores.
DOWNGRADE_DELAY_S = 1


class Attempt:
    """An attempt that `task` makes at the job of its message."""

    def __init__(self, task: Task, job_id: str) -> None:
        self.job_id = job_id
        self.token = leases.new_token(task.request.hostname)
        self.context: WorkerContext = task.app.context
        #: What is known of the job by now.
        self.fields: JobFields = {}
        self._task = task

    def start(self) -> Started:
        """Count the attempt and take the lease, if there is anything to do."""
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

    def announce(self, job: jobs.Job, plan: ScoringPlan) -> None:
        """Tell that the job is being scored, and by what."""
        self.fields |= {"pairs": job.pairs, "model": plan.model}
        job_log.log(Event.RUNNING, self.job_id, self.fields, code=plan.reason)
        if plan.reason is not None:
            task_events.send_downgraded(self._task, plan.model, plan.reason)

    def finish(self, result: jobs.JobResult) -> dict[str, Any]:
        """Put the result on record; return a summary for Flower.

        Raises `Ignore` if the job has another end.
        """
        made = result.provenance
        self.fields |= {"seconds": made.seconds, "truncated": made.truncated}
        if self._record(result):
            instead = f"instead of {made.model_requested}" if made.downgraded else None
            job_log.log(Event.DONE, self.job_id, self.fields, code=made.reason, reason=instead)
        elif self.log_other_end() is not jobs.JobState.DONE:
            raise Ignore
        return summary(made)

    def fail(self, error: errors.RerankError) -> errors.RerankError:
        """Put a failure on record; return the error, to be raised.

        Raises `Ignore` if the job has another end.
        """
        failure = error.as_failure(self.job_id, self.fields["attempts"])
        if self._record(failure, dead_letter=error.dead_letter):
            job_log.log(Event.FAILED, self.job_id, self.fields, code=error.code, reason=str(error))
        elif self.log_other_end() is not jobs.JobState.FAILED:
            raise Ignore
        return error

    def downgrade(self, error: errors.RerankError, model: str) -> Exception:
        """Hand the job over to another attempt, with another model; return what to raise."""
        self.context.retry_until_available(
            attempts.release(
                self.context.schema,
                self.job_id,
                self.token,
                downgrade=error.code,
                counts=self.context.counters.take(),
            )
        )
        reason = f"goes to {model}: {error}"
        job_log.log(Event.DOWNGRADED, self.job_id, self.fields, code=error.code, reason=reason)
        return self._retry(DOWNGRADE_DELAY_S, error, shadow=task_events.name_with(model))

    def defer(self, in_s: float, why: str, error: Exception | None = None) -> Exception:
        """Have the message come again later; return what to raise."""
        retry = self._retry(in_s, error)
        job_log.log(Event.DEFERRED, self.job_id, reason=f"{why}; tried again in {in_s:g} s")
        return retry

    def interrupt(self, error: MemoryError) -> errors.OutOfMemory:
        """Give up without a record, because even that has no memory; return what to raise."""
        ours = errors.OutOfMemory(f"job {self.job_id}: {error}")
        with suppress(MemoryError):
            job_log.log(Event.INTERRUPTED, self.job_id, code=ours.code, reason=str(error))
        return ours

    def skip(self, reason: str, code: str | None) -> Ignore:
        """Leave a job that had ended; return what to raise.

        How it did is what Flower goes on to show.
        """
        job_log.log(Event.SKIPPED, self.job_id, code=code, reason=reason)
        if code == jobs.JobState.CANCELLED:
            task_events.send_cancelled(self._task)
        return Ignore()

    def log_other_end(self) -> jobs.JobState | None:
        """Tell that the job was ended while it was scored; return how, if that is known."""
        status = self.context.best_effort(statuses.fetch(self.context.schema, self.job_id))
        state = status.state if status else None
        if state is jobs.JobState.CANCELLED:
            job_log.log(Event.CANCELLED, self.job_id, self.fields)
            task_events.send_cancelled(self._task)
        else:
            job_log.log(Event.SKIPPED, self.job_id, self.fields, reason="ended meanwhile")
        return state

    def _record(self, outcome: jobs.Outcome, *, dead_letter: bool = False) -> bool:
        """Put an outcome on record; return whether the job had none."""
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
    """Return what Flower's Result column shows, the most telling first."""
    return {
        "model": provenance.model,
        "downgraded": provenance.downgraded,
        "pairs": provenance.pairs,
        "pairs_per_s": round(provenance.pairs / max(provenance.seconds, 1e-6), 1),
        "truncated": provenance.truncated,
        "seconds": round(provenance.seconds, 3),
    }
