"""The batch of the blocking client: what can be done with many jobs together."""

from __future__ import annotations

from collections.abc import Iterator

from contract import jobs
from contract.batches import BatchProgress
from contract.errors import JobSplit
from contract.store.batches import StoredBatch
from contract.store.operation import Schema
from producer.client import batch_outcomes, batch_procedures, batch_progress
from producer.client.batch_ids import BatchIds
from producer.client.batch_jobs import EndedJobs
from producer.client.blocking_runner import BlockingRunner
from producer.client.watch import deadline_after


class Batch(BatchIds):
    """The jobs of one `submit_many`: the list of their ids, and what can be done with all of them.

    Another process finds it by its `id`, with `RerankClient.batch`.
    """

    def __init__(self, stored: StoredBatch, schema: Schema, runner: BlockingRunner) -> None:
        super().__init__(stored)
        self._schema = schema
        self._runner = runner

    def progress(self) -> BatchProgress:
        """Return the number of jobs in each state, the speed, and the time left.

        Raises `RedisUnavailable`.
        """
        return self._runner.run(batch_progress.progress(self._schema, self._follower))

    def as_completed(
        self, timeout_s: float | None = None
    ) -> Iterator[tuple[str, jobs.OutcomeOrError]]:
        """Yield the id and the outcome of each job once, in the order in which they end.

        An outcome is a `JobResult`, a `Failure`, or an error in its place. A job that was never
        submitted, because its process was killed, has `JobNotFound`. Raises `ResultTimeout` if some
        have not ended after `timeout_s` seconds (None: no limit), or `RedisUnavailable`.
        """
        return self._outcomes(timeout_s, in_order=False)

    def results(self, timeout_s: float | None = None) -> Iterator[jobs.JobResult]:
        """Yield the results of the jobs in the order of the batch, as soon as they are there.

        Raises the error of the first job that has no result, such as `JobFailed`, and the errors of
        `as_completed`.
        """
        for _, ended in self._outcomes(timeout_s, in_order=True):
            yield jobs.result_of(ended)

    def cancel(self) -> int:
        """Cancel the jobs that have not ended; return their number.

        Queued jobs are never scored, and the scores of running jobs are discarded. If another
        process is submitting the batch, it stops. Raises `RedisUnavailable`.
        """
        return self._runner.run(batch_procedures.cancel_batch(self._schema, self._stored))

    def _outcomes(
        self, timeout_s: float | None, *, in_order: bool
    ) -> Iterator[tuple[str, jobs.OutcomeOrError]]:
        deadline = deadline_after(timeout_s)
        ended = EndedJobs(self._stored, in_order=in_order)
        with self._runner.batch_watch(self.id) as watch:
            while ended.remaining:
                waiting = batch_outcomes.next_ended(self._schema, ended, deadline, timeout_s)
                for job_id, outcome in self._runner.run(waiting, watch).items():
                    yield job_id, self._whole(outcome, deadline)

    def _whole(self, outcome: jobs.OutcomeOrError, deadline: float) -> jobs.OutcomeOrError:
        if not isinstance(outcome, JobSplit):
            return outcome
        with self._runner.watch() as watch:
            merging = batch_outcomes.whole_outcome(self._schema, outcome, deadline)
            return self._runner.run(merging, watch)
