"""A message in the main process: what became of the child that had it?"""

from __future__ import annotations

from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals
from celery.worker.request import Request

from contract import jobs
from contract.errors import TimeLimitExceeded
from contract.store import attempts, outcomes, statuses
from worker.jobs import leases
from worker.monitoring import job_log
from worker.monitoring.job_log import Event, JobFields
from worker.runtime.app import settings
from worker.runtime.connection import best_effort, schema


class ChildOutcomeRequest(Request):
    """A message that a child works on, or is about to."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The child is killed for taking too long: that is the job's end."""
        super().on_timeout(soft, timeout)
        if soft:
            return
        error = TimeLimitExceeded(
            f"killed after the hard time limit of {settings.time_limit_s} s (RERANKQ_TIME_LIMIT_S)"
        )
        status = best_effort(statuses.fetch(schema, self.id))
        failure = error.as_failure(self.id, status.attempts if status else 0)
        if best_effort(
            outcomes.finish(schema, failure, self._owner, dead_letter=error.dead_letter)
        ):
            fields = _fields(status) | {"seconds": timeout}
            job_log.log(Event.FAILED, self.id, fields, code=error.code, reason=str(error))

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """The child was killed by another: the next attempt need not wait for its lease to end."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError | SystemExit) and self.worker_pid:
            released = best_effort(attempts.release(schema, self.id, self._owner, died=True))
            # Not of a job that had ended, but also if Redis is away.
            if released is not False:
                status = best_effort(statuses.fetch(schema, self.id)) if released else None
                reason = f"its process {self.worker_pid} was killed"
                code = jobs.WORKER_DIED
                job_log.log(Event.INTERRUPTED, self.id, _fields(status), code=code, reason=reason)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    @property
    def _owner(self) -> str:
        return leases.token_prefix(self.hostname, self.worker_pid)


@signals.task_revoked.connect
def _record_revoked(request: Any, **_: Any) -> None:
    """A job that was revoked in Flower is cancelled: no worker will take it."""
    status = best_effort(statuses.fetch(schema, request.id))
    if status is not None and best_effort(
        outcomes.finish(schema, jobs.cancellation(status, "revoked"))
    ):
        job_log.log(Event.CANCELLED, request.id, _fields(status), reason="revoked")


def _fields(status: jobs.JobStatus | None) -> JobFields:
    return {"pairs": status.pairs, "attempts": status.attempts} if status else {}
