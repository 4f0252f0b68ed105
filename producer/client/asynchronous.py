"""The asyncio client: the same verbs, and any number of waits on one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Self, TypeVar, Unpack, overload

from contract import jobs, names
from contract.settings import Settings
from contract.store import dead_letters as stored_dead_letters
from contract.store import overview
from contract.store.operation import Schema
from producer.client import dead_letters, preparing, procedures
from producer.client.async_runner import AsyncRunner
from producer.client.async_watch import AsyncWatch
from producer.client.options import SubmitManyOptions, SubmitOptions, takes_options_of
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, execute, uninterrupted

T = TypeVar("T")

#: Submissions at once: a thousand coroutines must not all run in one turn of the event loop.
MAX_SUBMISSIONS = 32


class AsyncRerankClient:
    """Submits jobs and awaits their results without blocking the event loop.

    Belongs to the event loop, and to the process, in which it is first used; elsewhere, its methods
    raise `ClientUnusable`. `settings` are read from the environment unless given; `redis_url`
    replaces theirs.

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

        The class describes the options. A query of more candidates, or more bytes, than a job may
        have is queued as several jobs, whose ids begin with the one returned. That id stands for
        all of them: `result` merges them to what one job would have given; `status`, `cancel` and
        `forget` are of all.

        Raises `InvalidInput` before anything is sent, `Overloaded`, or `RedisUnavailable`. The last
        may come after the job was queued: its id is then in the error's `submitted`, and
        submitting again with that `job_id` is harmless. If the calling task is cancelled, so is a
        job without an id of the caller's choice.
        """
        made = await self._prepare_query(query, documents, options)
        (job_id,) = await self._queue(made)
        return job_id

    @takes_options_of(preparing.prepare_requests)
    async def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        **options: Unpack[SubmitManyOptions],
    ) -> list[str]:
        """Queue many queries in as few jobs as the limits allow; return the jobs' ids, in order.

        The class describes the options. The rankings of those jobs, one after the other, are in the
        order of `requests`. A worker fills its batches across the queries of a job.

        All or none: whatever is raised, a cancellation too, the jobs that were queued before are
        cancelled and forgotten. Where that fails because Redis is away, their ids are in the
        error's `submitted`. Raises as `submit`; all requests are checked before the first is sent.
        """
        self._runner.check_usable()
        made = await self._runner.in_thread(
            preparing.prepare_requests, requests, self.settings, **options
        )
        return await self._queue(made)

    async def submit_job(self, job: jobs.Job, *, priority: int = names.PRIORITY_BULK) -> str:
        """Queue a job that `preparing.job` made; return its id. Raises as `submit`."""
        preparing.check_priority(priority)
        async with self._submissions:
            return await self._run(procedures.queue(self._schema, self._publisher, job, priority))

    async def result(
        self,
        job_id: str,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> jobs.JobResult:
        """Return the job's result, waiting up to `timeout` seconds for it (None: for ever).

        Raises `JobFailed` if the job ended in a failure, `ResultTimeout`, `JobNotFound` (of which
        `ResultExpired` is one kind) or `RedisUnavailable`; of a query that was split, `MixedModels`
        if a smaller model scored some of it only. (`rerank` has it score all, then.)
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

        The class describes the options. Raises as `submit` and `result`. A job that is late is
        cancelled, and so is one without a `job_id` if the calling task is cancelled. If Redis goes
        away meanwhile, the error's `submitted` has the job's id.
        """
        made = await self._prepare_query(query, documents, options)
        await self._queue(made)
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
        """Return the state of a job, or of the service (which asks the workers, for a second).

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        if job_id is not None:
            return await self._run(procedures.status(self._schema, job_id))
        return await self._run(execute(overview.status(self._schema, await self.workers())))

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended; return False if it had.

        A waiting job is never scored; the scores of a running one are thrown away. Raises
        `JobNotFound` or `RedisUnavailable`.
        """
        return await self._run(procedures.cancel(self._schema, job_id))

    async def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s`.

        Only of the first `at_most` of them, if that is given. Tasks that ask at the same time share
        one answer. Raises `RedisUnavailable`.
        """
        self._runner.check_usable()
        return await self._runner.workers(timeout_s, at_most)

    async def forget(self, job_id: str) -> None:
        """Remove the outcome of an ended job before it expires. Raises `RedisUnavailable`."""
        await self._run(procedures.forget(self._schema, job_id))

    async def dead_letters(self, at_most: int | None = 1_000) -> list[jobs.DeadLetter]:
        """Return failed jobs that can be tried again, the last first; None returns all.

        A letter whose record cannot be read has the code `unreadable`. Raises `RedisUnavailable`.
        """
        return await self._run(dead_letters.newest(self._schema, at_most))

    async def each_dead_letter(self) -> AsyncIterator[jobs.DeadLetter]:
        """Yield all dead letters, the last first, also while they are retried or dropped.

        Those that die meanwhile are not among them. Raises `RedisUnavailable`.
        """
        page = dead_letters.FIRST_PAGE
        while True:
            page, letters = await self._run(dead_letters.next_page(self._schema, page))
            if not page.ids:
                return
            for letter in letters:
                yield letter

    async def count_dead_letters(self) -> int:
        """Return the number of dead letters. Raises `RedisUnavailable`."""
        return await self._run(execute(stored_dead_letters.count(self._schema)))

    async def dead_letter(self, job_id: str) -> jobs.DeadLetter:
        """Return one dead letter. Raises `JobNotFound` or `RedisUnavailable`."""
        return await self._run(dead_letters.find(self._schema, job_id))

    async def retry(self, job_id: str, *, model: str | None = None) -> None:
        """Queue a dead letter again under its id, as if new; with another model, if one is given.

        Its failure is forgotten. Raises `JobNotFound`, `PayloadMissing`, `PayloadInvalid`,
        `InvalidInput`, `Overloaded` or `RedisUnavailable`; it is still a dead letter then, unless
        the error's `submitted` has its id: it is queued, and a worker's sweep sends its message.
        A retry that was begun comes to its end, also if the calling task is cancelled.
        """
        retrying = dead_letters.retry(self._schema, self._publisher, job_id, model)
        await self._run(uninterrupted(retrying))

    async def drop(self, job_id: str) -> None:
        """Give up a dead letter and its payload; it stays failed.

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        await self._run(dead_letters.drop(self._schema, job_id))

    def watch(self) -> AsyncWatch:
        """Return a watch with which to wait for several jobs, to use in an `async with` block."""
        return self._runner.watch()

    async def aclose(self) -> None:
        """Close the connections. Calls that are under way raise `ClientUnusable`.

        May be called more than once. After the event loop of the client has ended, its threads end,
        and Python closes its connections with a `ResourceWarning`.
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

    async def _queue(self, made: preparing.PreparedJobs) -> list[str]:
        """Queue jobs one after the other; withdraw them after an error, where that is to be.

        A submission that is under way when the caller is cancelled comes to its end before that:
        otherwise it would queue a job that was cancelled already.
        """
        begun: list[str] = []
        stopped = asyncio.Event()

        async def queue() -> None:
            for job in made.jobs:
                if stopped.is_set():
                    return
                begun.append(job.id)
                await self.submit_job(job, priority=made.priority)

        sending = self._runner.in_background(queue())
        try:
            await asyncio.shield(sending)
        except BaseException as error:
            stopped.set()
            if made.is_withdrawn_after(error):
                withdrawing = self._withdraw(error, begun, after=sending)
                await asyncio.shield(self._runner.in_background(withdrawing))
            raise
        return begun

    async def _withdraw(
        self, error: BaseException, job_ids: list[str], after: asyncio.Task[None]
    ) -> None:
        await asyncio.wait([after])
        await self._runner.run(procedures.withdraw(self._schema, error, job_ids))

    def _run(
        self, procedure: Procedure[T], watch: AsyncWatch | None = None
    ) -> Coroutine[Any, Any, T]:
        self._runner.check_usable()
        return self._runner.run(procedure, watch)
