"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, Unpack, overload

from contract import jobs, names
from contract.batches import BatchProgress, RunProgress
from contract.settings import Settings
from contract.store import batches, operation, overview
from contract.store.batches import StoredBatch
from producer.client import (
    arguments,
    batch_procedures,
    batch_progress,
    grouping,
    preparing,
    procedures,
)
from producer.client.batch import Batch
from producer.client.batch_submission import BatchSubmission
from producer.client.blocking_runner import BlockingRunner
from producer.client.dead_letter_calls import DeadLetterCalls
from producer.client.options import SubmitManyOptions, SubmitOptions, takes_options_of
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, execute
from producer.client.watch import Watch
from producer.client.worker_inspector import WorkerReadiness

T = TypeVar("T")


class RerankClient(DeadLetterCalls):
    """Submits jobs and reads their results; safe to share between threads.

    `settings` are read from the environment by default; `redis_url` replaces the URL in the
    settings.

    A submission takes these options:

    - `top_k` (`submit`, `rerank`): the number of best documents to keep; all by default.
    - `model`: the model to use, instead of the worker's default.
    - `job_id` (`submit`, `rerank`): an id that you choose. Submitting it again is safe: the job is
      not scored again while its result can be read (RERANKQ_RESULT_TTL_S).
    - `allow_downgrade`: if false, a job whose model runs out of memory or time fails, instead of
      being scored by a smaller model.
    - `priority`: 0 (first) to 9 (last).
    - `group`: the group of bulk jobs with which they share their turns in the queue; by default
      RERANKQ_GROUP, or else one group for each client. Groups take turns, by pairs.
    - `trace`: the W3C trace context that the worker continues: `traceparent`, `tracestate`.
    - `passages`: cut long documents into passages of this many tokens, and score a document by its
      best passage, instead of truncating it. A dict has `tokens`, and may have `stride` (tokens
      from the start of a passage to the next; by default half of `tokens`) and `aggregate`
      (`max`, `mean-top2` or `first`). Each ranked document then has a `passage`.
    - `pairs_per_job` (`submit_many`): the maximum number of documents in a job.
    - `batch_id` (`submit_many`): an id that you choose for all jobs together. `batch` finds them by
      it, `status`, `cancel` and `forget` accept it, and submitting the same requests again with it
      is safe.
    - `label` (`submit_many`): a name of the batch for people, which `rerankq status --batches`
      shows.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        arguments.check_settings(settings)
        self.settings = (settings or Settings.load()).with_redis_url(redis_url).with_group()
        self._runner = BlockingRunner(self.settings)
        self._schema = self._runner.schema
        self._store = self._runner.store
        self._publisher = Publisher(self.settings)

    @takes_options_of(preparing.prepare_query)
    def submit(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        **options: Unpack[SubmitOptions],
    ) -> str:
        """Queue one query with its documents (strings, dicts or `Candidate`s); return the job's id.

        The options are described in the class. A query that exceeds the number of candidates or the
        bytes of a job is queued as several jobs, whose ids begin with the returned id. Use the
        returned id for all of them: `result` returns the merged result, and `status`, `cancel` and
        `forget` apply to all parts.

        Raises `InvalidInput` before anything is sent, `Overloaded`, or `RedisUnavailable`. If
        `RedisUnavailable` is raised after the job was queued, its id is in the error's `submitted`,
        and submitting again with that `job_id` is safe. If the call is interrupted, a job without
        a chosen id is cancelled.
        """
        made = preparing.prepare_query(query, documents, self.settings, **options)
        return self._queue_query(made)

    @takes_options_of(grouping.prepare_requests)
    def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        **options: Unpack[SubmitManyOptions],
    ) -> Batch:
        """Queue many queries in as few jobs as the limits allow; return the batch of these jobs.

        The batch is the list of the jobs' ids, in order, and follows or cancels all of them. The
        options are described in the class. The rankings of these jobs, concatenated, are in the
        order of `requests`. A worker fills its batches across the queries of a job.

        All jobs are queued or none: after any error, including an interruption, the jobs that were
        already queued are cancelled and forgotten. If that fails because Redis is away, their ids
        are in the error's `submitted`. Raises the errors of `submit`; all requests are checked
        before the first is sent.
        """
        made = grouping.prepare_requests(requests, self.settings, **options)
        return Batch(self._queue_batch(made), self._schema, self._runner)

    def submit_job(
        self,
        job: jobs.Job,
        *,
        priority: int = names.PRIORITY_BULK,
        trace: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> str:
        """Queue a job made by `preparing.job`; return its id. Raises the errors of `submit`."""
        priority = arguments.check_priority(priority)
        arguments.check_trace(trace)
        arguments.check_group(group)
        return self._run(
            procedures.queue(self._schema, self._publisher, job, priority, trace, group)
        )

    def result(self, job_id: str, timeout: float | None = 300.0) -> jobs.JobResult:
        """Return the job's result, waiting up to `timeout` seconds for it (None: no limit).

        Raises `JobFailed` if the job failed, `ResultTimeout`, `JobNotFound`, its subclass
        `ResultExpired`, or `RedisUnavailable`. Raises `MixedModels` if a query was split and a
        smaller model scored only some of its parts; `rerank` rescores all of them instead.
        """
        with self.watch() as watch:
            return self._run(procedures.result(self._schema, job_id, timeout), watch)

    @takes_options_of(preparing.prepare_query)
    def rerank(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        *,
        timeout: float | None = 300.0,
        **options: Unpack[SubmitOptions],
    ) -> jobs.JobResult:
        """Submit one query with its documents, and wait up to `timeout` seconds for its result.

        The options are described in the class. Raises the errors of `submit` and `result`. The job
        is cancelled after the timeout, or if the wait is interrupted and no `job_id` was given. If
        Redis becomes unavailable, the job's id is in the error's `submitted`.
        """
        arguments.check_timeout(timeout)
        made = preparing.prepare_query(query, documents, self.settings, **options)
        self._queue_query(made)
        try:
            with self.watch() as watch:
                waiting = procedures.result_of_query(self._schema, self._publisher, made, timeout)
                return self._run(waiting, watch)
        except BaseException as error:
            self._run(procedures.give_up(self._schema, made, error))
            raise

    @overload
    def status(self, job_id: str) -> jobs.JobStatus: ...
    @overload
    def status(self, job_id: None = None) -> jobs.QueueStatus: ...
    def status(self, job_id: str | None = None) -> jobs.JobStatus | jobs.QueueStatus:
        """Return the status of a job, or of the service if no id is given.

        Reading the status of the service takes a second, because it asks every worker.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        if job_id is not None:
            return self._run(batch_progress.status(self._schema, job_id))
        return self._store.execute(overview.status(self._schema, self.workers()))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, or all jobs of a batch; return False if it has already ended.

        A queued job is never scored, and the scores of a running job are discarded. Raises
        `JobNotFound` or `RedisUnavailable`.
        """
        return self._run(batch_procedures.cancel(self._schema, job_id))

    def parts(self, job_id: str) -> tuple[str, ...]:
        """Return the ids of the jobs of a batch, or of a query that was split; else the id itself.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        return self._run(procedures.parts(self._schema, job_id))

    def batch(self, batch_id: str) -> Batch:
        """Return a batch of an earlier `submit_many`, also of another process or client.

        Raises `JobNotFound`, `InvalidInput` if the id is a job's, or `RedisUnavailable`.
        """
        stored = self._run(execute(batches.find(self._schema, batch_id)))
        return Batch(stored, self._schema, self._runner)

    def batches(self, at_most: int = 100) -> list[BatchProgress]:
        """Return the progress of the batches that were submitted last, newest first.

        Raises `RedisUnavailable`.
        """
        return self._run(batch_progress.list_all(self._schema, at_most))

    def runs(self, at_most: int = 100) -> list[RunProgress]:
        """Return the runs of `rerankq rescore` that were started last, newest first.

        Raises `RedisUnavailable`.
        """
        return self._run(batch_progress.list_runs(self._schema, at_most))

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s` seconds.

        If `at_most` is given, return as soon as that many have answered. Simultaneous calls of
        several threads share one answer. Raises `RedisUnavailable`.
        """
        self._store.execute(operation.ping())  # fails sooner than Celery if Redis is away
        return self._publisher.workers(timeout_s, at_most)

    def readiness(
        self, timeout_s: float = 1.0, at_most: int | None = None
    ) -> dict[str, WorkerReadiness]:
        """Return the readiness of each worker that answers, by name: see `workers`.

        Raises `RedisUnavailable`.
        """
        self._store.execute(operation.ping())
        return self._publisher.readiness(timeout_s, at_most)

    def forget(self, job_id: str) -> None:
        """Remove the outcome of an ended job, or of all jobs of a batch, before it expires.

        Raises `RedisUnavailable`."""
        self._run(batch_procedures.forget(self._schema, job_id))

    def watch(self) -> Watch:
        """Return a watch that waits for several jobs; use it in a `with` block."""
        return self._runner.watch()

    def close(self) -> None:
        """Close the connections.

        Other threads that wait for a result raise `ClientUnusable` within `POLL_S` seconds.
        """
        self._store.close()
        self._publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _queue_query(self, made: preparing.PreparedJobs) -> str:
        """Queue the job of a query, and return its id; withdraw it after an interruption."""
        (job,) = made.jobs
        try:
            return self.submit_job(job, priority=made.priority, trace=made.trace, group=made.group)
        except BaseException as error:
            if made.is_withdrawn_after(error):
                self._run(procedures.withdraw(self._schema, error, [job.id]))
            raise

    def _queue_batch(self, made: preparing.PreparedJobs) -> StoredBatch:
        """Queue jobs, several at once; after an error, withdraw them."""
        submission = BatchSubmission(self._schema, self._publisher, made)
        try:
            while not submission.has_ended:
                self._run(submission.advance())
        except BaseException as error:
            if made.is_withdrawn_after(error):
                self._run(submission.withdraw(error))
            raise
        return submission.batch

    def _run(self, procedure: Procedure[T], watch: Watch | None = None) -> T:
        return self._runner.run(procedure, watch)
