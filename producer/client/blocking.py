"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Self, TypeVar, Unpack, overload

from contract import jobs, names
from contract.settings import Settings
from contract.store import dead_letters as stored_dead_letters
from contract.store import operation, overview
from contract.store.blocking import JobStore
from contract.store.connection import connect, connect_subscribers
from contract.store.operation import Operation, Schema
from producer.client import dead_letters, preparing, procedures, steps
from producer.client.options import SubmitManyOptions, SubmitOptions, takes_options_of
from producer.client.publishing import Publisher
from producer.client.steps import Call, Procedure, Step, Uninterrupted, Wait
from producer.client.watch import Watch

T = TypeVar("T")


class RerankClient:
    """Submits jobs and reads their results; safe to share between threads.

    `settings` are read from the environment unless given; `redis_url` replaces theirs.

    Options of a submission, all of which may be left out:

    - `top_k` (`submit`, `rerank`): how many of the best documents to keep; all by default.
    - `model`: another model than the worker's default.
    - `job_id` (`submit`, `rerank`): an id of the caller's choice. Submitting it again is harmless:
      a job is not scored again while its result can be read (RERANKQ_RESULT_TTL_S).
    - `allow_downgrade`: without it, no smaller model takes the place of one that needs too much
      memory.
    - `priority`: 0 (first) to 9 (last).
    - `pairs_per_job` (`submit_many`): at most so many documents in a job.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        self.settings = (settings or Settings.load()).with_redis_url(redis_url)
        self._schema = Schema(self.settings)
        self._store = JobStore(connect(self.settings), self._schema)
        self._subscriptions = connect_subscribers(self.settings)
        self._publisher = Publisher(self.settings)

    @takes_options_of(preparing.prepare_query)
    def submit(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        **options: Unpack[SubmitOptions],
    ) -> str:
        """Queue one query with its documents (strings, dicts or `Candidate`s); return the job's id.

        The class describes the options. A query of more candidates, or more bytes, than a job may
        have is queued as several jobs, whose ids begin with the one returned. That id stands for
        all of them: `result` merges them to what one job would have given; `status`, `cancel` and
        `forget` are of all.

        Raises `InvalidInput` before anything is sent, `Overloaded`, or `RedisUnavailable`. The last
        may come after the job was queued: its id is then in the error's `submitted`, and
        submitting again with that `job_id` is harmless. If the call is interrupted, a job without
        an id of the caller's choice is cancelled.
        """
        made = preparing.prepare_query(query, documents, self.settings, **options)
        (job_id,) = self._queue(made)
        return job_id

    @takes_options_of(preparing.prepare_requests)
    def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        **options: Unpack[SubmitManyOptions],
    ) -> list[str]:
        """Queue many queries in as few jobs as the limits allow; return the jobs' ids, in order.

        The class describes the options. The rankings of those jobs, one after the other, are in the
        order of `requests`. A worker fills its batches across the queries of a job.

        All or none: whatever is raised, an interruption too, the jobs that were queued before are
        cancelled and forgotten. Where that fails because Redis is away, their ids are in the
        error's `submitted`. Raises as `submit`; all requests are checked before the first is sent.
        """
        return self._queue(preparing.prepare_requests(requests, self.settings, **options))

    def submit_job(self, job: jobs.Job, *, priority: int = names.PRIORITY_BULK) -> str:
        """Queue a job that `preparing.job` made; return its id. Raises as `submit`."""
        preparing.check_priority(priority)
        return self._run(procedures.queue(self._schema, self._publisher, job, priority))

    def result(self, job_id: str, timeout: float | None = 300.0) -> jobs.JobResult:
        """Return the job's result, waiting up to `timeout` seconds for it (None: for ever).

        Raises `JobFailed` if the job ended in a failure, `ResultTimeout`, `JobNotFound` (of which
        `ResultExpired` is one kind) or `RedisUnavailable`; of a query that was split, `MixedModels`
        if a smaller model scored some of it only. (`rerank` has it score all, then.)
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

        The class describes the options. Raises as `submit` and `result`. A job that is late is
        cancelled, and so is one without a `job_id` if the wait is interrupted. If Redis goes away
        meanwhile, the error's `submitted` has the job's id.
        """
        made = preparing.prepare_query(query, documents, self.settings, **options)
        self._queue(made)
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
        """Return the state of a job, or of the service (which asks the workers, for a second).

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        if job_id is not None:
            return self._run(procedures.status(self._schema, job_id))
        return self._store.execute(overview.status(self._schema, self.workers()))

    def cancel(self, job_id: str) -> bool:
        """End a job that has not ended; return False if it had.

        A waiting job is never scored; the scores of a running one are thrown away. Raises
        `JobNotFound` or `RedisUnavailable`.
        """
        return self._run(procedures.cancel(self._schema, job_id))

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s`.

        Only of the first `at_most` of them, if that is given. Threads that ask at the same time
        share one answer. Raises `RedisUnavailable`.
        """
        self._store.execute(operation.ping())  # fails sooner than Celery's asking if Redis is away
        return self._publisher.workers(timeout_s, at_most)

    def forget(self, job_id: str) -> None:
        """Remove the outcome of an ended job before it expires. Raises `RedisUnavailable`."""
        self._run(procedures.forget(self._schema, job_id))

    def dead_letters(self, at_most: int | None = 1_000) -> list[jobs.DeadLetter]:
        """Return failed jobs that can be tried again, the last first; None returns all.

        A letter whose record cannot be read has the code `unreadable`. Raises `RedisUnavailable`.
        """
        return self._run(dead_letters.newest(self._schema, at_most))

    def each_dead_letter(self) -> Iterator[jobs.DeadLetter]:
        """Yield all dead letters, the last first, also while they are retried or dropped.

        Those that die meanwhile are not among them. Raises `RedisUnavailable`.
        """
        page = dead_letters.FIRST_PAGE
        while True:
            page, letters = self._run(dead_letters.next_page(self._schema, page))
            if not page.ids:
                return
            yield from letters

    def count_dead_letters(self) -> int:
        """Return the number of dead letters. Raises `RedisUnavailable`."""
        return self._store.execute(stored_dead_letters.count(self._schema))

    def dead_letter(self, job_id: str) -> jobs.DeadLetter:
        """Return one dead letter. Raises `JobNotFound` or `RedisUnavailable`."""
        return self._run(dead_letters.find(self._schema, job_id))

    def retry(self, job_id: str, *, model: str | None = None) -> None:
        """Queue a dead letter again under its id, as if new; with another model, if one is given.

        Its failure is forgotten. Raises `JobNotFound`, `PayloadMissing`, `PayloadInvalid`,
        `InvalidInput`, `Overloaded` or `RedisUnavailable`; it is still a dead letter then, unless
        the error's `submitted` has its id: it is queued, and a worker's sweep sends its message.
        """
        self._run(dead_letters.retry(self._schema, self._publisher, job_id, model))

    def drop(self, job_id: str) -> None:
        """Give up a dead letter and its payload; it stays failed.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        self._run(dead_letters.drop(self._schema, job_id))

    def watch(self) -> Watch:
        """Return a subscription with which to wait for several jobs, to use in a `with` block."""
        return Watch(self._subscriptions, self._store)

    def close(self) -> None:
        """Close the connections.

        Calls of other threads that wait for a result raise `ClientUnusable` within `POLL_S`.
        """
        self._store.close()
        self._publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _queue(self, made: preparing.PreparedJobs) -> list[str]:
        """Queue jobs one after the other; withdraw them after an error, where that is to be."""
        begun: list[str] = []
        try:
            for job in made.jobs:
                begun.append(job.id)
                self.submit_job(job, priority=made.priority)
        except BaseException as error:
            if made.is_withdrawn_after(error):
                self._run(procedures.withdraw(self._schema, error, begun))
            raise
        return begun

    def _run(self, procedure: Procedure[T], watch: Watch | None = None) -> T:
        return steps.run(procedure, partial(self._perform, watch))

    def _perform(self, watch: Watch | None, step: Step) -> Any:
        match step:
            case Operation():
                return self._store.execute(step)
            case Call():
                return step.make()
            case Wait() if watch is not None:
                return watch.any_of(step.job_ids, step.timeout_s)
            case Uninterrupted():
                return self._run(step.procedure)
        raise TypeError(f"{step!r} needs a watch")
