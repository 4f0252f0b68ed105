"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeVar, Unpack, overload

from contract import jobs, names
from contract.batches import BatchProgress, RunProgress
from contract.settings import Settings
from contract.store import batches, overview
from contract.store.batches import StoredBatch
from contract.store.operation import Schema
from producer.client import (
    arguments,
    batch_procedures,
    batch_progress,
    grouping,
    preparing,
    procedures,
)
from producer.client.async_batch import AsyncBatch
from producer.client.async_runner import AsyncRunner
from producer.client.async_watch import AsyncWatch
from producer.client.batch_submission import BatchSubmission
from producer.client.dead_letter_calls import AsyncDeadLetterCalls
from producer.client.options import SubmitManyOptions, SubmitOptions, takes_options_of
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, execute
from producer.client.worker_inspector import WorkerReadiness

T = TypeVar("T")

#: The number of concurrent submissions, so that a thousand of them do not block the event loop.
MAX_SUBMISSIONS = 32


class AsyncRerankClient(AsyncDeadLetterCalls):
    """Submits jobs and awaits their results without blocking the event loop.

    Use it only in the event loop and process of its first use; elsewhere, its methods raise
    `ClientUnusable`. `settings` are read from the environment by default; `redis_url` replaces the
    URL in the settings.

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
        self._schema = Schema(self.settings)
        self._publisher = Publisher(self.settings)
        self._runner = AsyncRunner(self._schema, self._publisher)
        self._submissions = asyncio.Semaphore(MAX_SUBMISSIONS)

    @takes_options_of(preparing.prepare_query)
    async def submit(
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
        and submitting again with that `job_id` is safe. If the calling task is cancelled, a job
        without a chosen id is cancelled too.
        """
        made = await self._prepare_query(query, documents, options)
        return await self._queue_query(made)

    @takes_options_of(grouping.prepare_requests)
    async def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        **options: Unpack[SubmitManyOptions],
    ) -> AsyncBatch:
        """Queue many queries in as few jobs as the limits allow; return the batch of these jobs.

        The batch is the list of the jobs' ids, in order, and follows or cancels all of them. The
        options are described in the class. The rankings of these jobs, concatenated, are in the
        order of `requests`. A worker fills its batches across the queries of a job.

        All jobs are queued or none: after any error, including a cancellation, the jobs that were
        already queued are cancelled and forgotten. If that fails because Redis is away, their ids
        are in the error's `submitted`. Raises the errors of `submit`; all requests are checked
        before the first is sent.
        """
        self._runner.check_usable()
        made = await self._runner.in_thread(
            grouping.prepare_requests, requests, self.settings, **options
        )
        return AsyncBatch(await self._queue_batch(made), self._schema, self._runner)

    async def submit_job(
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
        async with self._submissions:
            queueing = procedures.queue(self._schema, self._publisher, job, priority, trace, group)
            return await self._run(queueing)

    async def result(
        self,
        job_id: str,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> jobs.JobResult:
        """Return the job's result, waiting up to `timeout` seconds for it (None: no limit).

        Raises `JobFailed` if the job failed, `ResultTimeout`, `JobNotFound`, its subclass
        `ResultExpired`, or `RedisUnavailable`. Raises `MixedModels` if a query was split and a
        smaller model scored only some of its parts; `rerank` rescores all of them instead.
        """
        async with self.watch() as watch:
            return await self._run(procedures.result(self._schema, job_id, timeout), watch)

    @takes_options_of(preparing.prepare_query)
    async def rerank(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        *,
        timeout: float | None = 300.0,  # noqa: ASYNC109
        **options: Unpack[SubmitOptions],
    ) -> jobs.JobResult:
        """Submit one query with its documents, and wait up to `timeout` seconds for its result.

        The options are described in the class. Raises the errors of `submit` and `result`. The job
        is cancelled after the timeout, or if the calling task is cancelled and no `job_id` was
        given. If Redis becomes unavailable, the job's id is in the error's `submitted`.
        """
        arguments.check_timeout(timeout)
        made = await self._prepare_query(query, documents, options)
        await self._queue_query(made)
        try:
            async with self.watch() as watch:
                waiting = procedures.result_of_query(self._schema, self._publisher, made, timeout)
                return await self._run(waiting, watch)
        except BaseException as error:
            await self._runner.run(procedures.give_up(self._schema, made, error))
            raise

    @overload
    async def status(self, job_id: str) -> jobs.JobStatus: ...
    @overload
    async def status(self, job_id: None = None) -> jobs.QueueStatus: ...
    async def status(self, job_id: str | None = None) -> jobs.JobStatus | jobs.QueueStatus:
        """Return the status of a job, or of the service if no id is given.

        Reading the status of the service takes a second, because it asks every worker.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        if job_id is not None:
            return await self._run(batch_progress.status(self._schema, job_id))
        return await self._run(execute(overview.status(self._schema, await self.workers())))

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job, or all jobs of a batch; return False if it has already ended.

        A queued job is never scored, and the scores of a running job are discarded. Raises
        `JobNotFound` or `RedisUnavailable`.
        """
        return await self._run(batch_procedures.cancel(self._schema, job_id))

    async def parts(self, job_id: str) -> tuple[str, ...]:
        """Return the ids of the jobs of a batch, or of a query that was split; else the id itself.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        return await self._run(procedures.parts(self._schema, job_id))

    async def batch(self, batch_id: str) -> AsyncBatch:
        """Return a batch of an earlier `submit_many`, also of another process or client.

        Raises `JobNotFound`, `InvalidInput` if the id is a job's, or `RedisUnavailable`.
        """
        stored = await self._run(execute(batches.find(self._schema, batch_id)))
        return AsyncBatch(stored, self._schema, self._runner)

    async def batches(self, at_most: int = 100) -> list[BatchProgress]:
        """Return the progress of the batches that were submitted last, newest first.

        Raises `RedisUnavailable`.
        """
        return await self._run(batch_progress.list_all(self._schema, at_most))

    async def runs(self, at_most: int = 100) -> list[RunProgress]:
        """Return the runs of `rerankq rescore` that were started last, newest first.

        Raises `RedisUnavailable`.
        """
        return await self._run(batch_progress.list_runs(self._schema, at_most))

    async def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s` seconds.

        If `at_most` is given, return as soon as that many have answered. Simultaneous calls of
        several tasks share one answer. Raises `RedisUnavailable`.
        """
        self._runner.check_usable()
        return await self._runner.workers(timeout_s, at_most)

    async def readiness(
        self, timeout_s: float = 1.0, at_most: int | None = None
    ) -> dict[str, WorkerReadiness]:
        """Return the readiness of each worker that answers, by name: see `workers`.

        Raises `RedisUnavailable`.
        """
        self._runner.check_usable()
        return await self._runner.readiness(timeout_s, at_most)

    async def forget(self, job_id: str) -> None:
        """Remove the outcome of an ended job, or of all jobs of a batch, before it expires.

        Raises `RedisUnavailable`."""
        await self._run(batch_procedures.forget(self._schema, job_id))

    def watch(self) -> AsyncWatch:
        """Return a watch that waits for several jobs; use it in an `async with` block."""
        return self._runner.watch()

    async def aclose(self) -> None:
        """Close the connections. Calls in progress raise `ClientUnusable`.

        It may be called more than once. If it is not called, the client's threads end after its
        event loop, and Python closes its connections with a `ResourceWarning`.
        """
        await self._runner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _prepare_query(
        self, query: str, documents: Iterable[preparing.Document], options: SubmitOptions
    ) -> preparing.PreparedJobs:
        self._runner.check_usable()
        async with self._submissions:
            return await self._runner.in_thread(
                preparing.prepare_query, query, documents, self.settings, **options
            )

    async def _queue_query(self, made: preparing.PreparedJobs) -> str:
        """Queue the job of a query, and return its id; withdraw it if the caller is cancelled."""
        (job,) = made.jobs
        queueing = self.submit_job(job, priority=made.priority, trace=made.trace, group=made.group)
        sending = self._runner.in_background(queueing)
        try:
            return await asyncio.shield(sending)
        except BaseException as error:
            if made.is_withdrawn_after(error):
                withdrawing = partial(procedures.withdraw, self._schema, error, [job.id])
                await self._withdraw(withdrawing, after=sending)
            raise

    async def _queue_batch(self, made: preparing.PreparedJobs) -> StoredBatch:
        """Queue jobs, several at once; after an error, withdraw them.

        If the caller is cancelled, the current step finishes first. Otherwise it could queue a job
        after its cancellation.
        """
        submission = BatchSubmission(self._schema, self._publisher, made)
        stopped = asyncio.Event()

        async def queue() -> None:
            while not submission.has_ended and not stopped.is_set():
                async with self._submissions:
                    await self._run(submission.advance())

        sending = self._runner.in_background(queue())
        try:
            await asyncio.shield(sending)
        except BaseException as error:
            stopped.set()
            if made.is_withdrawn_after(error):
                await self._withdraw(partial(submission.withdraw, error), after=sending)
            raise
        return submission.batch

    async def _withdraw(
        self, withdrawing: Callable[[], Procedure[None]], after: asyncio.Task[Any]
    ) -> None:
        """Withdraw jobs after their submission has ended, even if the caller is cancelled again."""

        async def withdraw() -> None:
            await asyncio.wait([after])
            await self._runner.run(withdrawing())

        await asyncio.shield(self._runner.in_background(withdraw()))

    def _run(
        self, procedure: Procedure[T], watch: AsyncWatch | None = None
    ) -> Coroutine[Any, Any, T]:
        self._runner.check_usable()
        return self._runner.run(procedure, watch)
