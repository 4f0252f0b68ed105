"""Handle the end of children in the main process: a time limit, a kill, or a revoked job."""

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
from worker.runtime.context import WorkerContext
from worker.runtime.restart import EXIT_GPU_FAILED

#: How billiard names the end of a child that logs its interruption itself before it exits.
LOST_ITS_GPU = f"exitcode {EXIT_GPU_FAILED}"


def register() -> None:
    """Connect the handler for revoked jobs."""
    signals.task_revoked.connect(_record_revoked)


class ChildOutcomeRequest(Request):
    """The request of a message that a child is running, or is about to run."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Fail the job, because its child is killed for exceeding the time limit."""
        super().on_timeout(soft, timeout)
        if soft:
            return
        context = self._worker
        error = TimeLimitExceeded(
            "its process was killed at the hard time limit of"
            f" {context.settings.time_limit_s} s (RERANKQ_TIME_LIMIT_S)"
        )
        status = context.best_effort(statuses.fetch(context.schema, self.id))
        failure = error.as_failure(self.id, status.attempts if status else 0)
        if context.best_effort(
            outcomes.finish(
                context.schema, failure, self._token_prefix, dead_letter=error.dead_letter
            )
        ):
            fields = _fields(status) | {"seconds": timeout}
            job_log.log(Event.FAILED, self.id, fields, code=error.code, reason=str(error))

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """If the child was killed, release its lease, so that the next attempt does not wait."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError | SystemExit) and self.worker_pid:
            self._release(has_said_why=LOST_ITS_GPU in str(error))
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _release(self, *, has_said_why: bool) -> None:
        context = self._worker
        released = context.best_effort(
            attempts.release(context.schema, self.id, self._token_prefix, died=True)
        )
        # False means that the job has ended. None means that Redis is unavailable, so log the kill.
        if released is not False and not has_said_why:
            status = (
                context.best_effort(statuses.fetch(context.schema, self.id)) if released else None
            )
            reason = f"child process {self.worker_pid} was killed"
            code = jobs.WORKER_DIED
            job_log.log(Event.INTERRUPTED, self.id, _fields(status), code=code, reason=reason)

    @property
    def _worker(self) -> WorkerContext:
        context: WorkerContext = self.app.context
        return context

    @property
    def _token_prefix(self) -> str:
        return leases.token_prefix(self.hostname, self.worker_pid)


def _record_revoked(sender: Any, request: Any, **_: Any) -> None:
    """Cancel a job that was revoked in Flower, because no worker will run it."""
    context: WorkerContext = sender.app.context
    status = context.best_effort(statuses.fetch(context.schema, request.id))
    if status is not None and context.best_effort(
        outcomes.finish(context.schema, jobs.cancellation(status, "revoked"))
    ):
        job_log.log(Event.CANCELLED, request.id, _fields(status), reason="revoked")


def _fields(status: jobs.JobStatus | None) -> JobFields:
    return {"pairs": status.pairs, "attempts": status.attempts} if status else {}
