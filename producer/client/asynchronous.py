"""The asyncio client: the same verbs, and any number of waits on one subscription."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar, overload

import redis.asyncio

from contract import jobs, names
from contract.errors import (
    ClientUnusable,
    JobNotFound,
    JobSplit,
    MixedModels,
    RedisUnavailable,
    RerankError,
    ResultTimeout,
)
from contract.settings import Settings
from contract.store import dead_letters, operation, outcomes, overview, statuses, submissions
from contract.store.asynchronous import AsyncJobStore
from contract.store.connection import connection_options
from contract.store.operation import Operation
from contract.store.redis_errors import closed_error
from contract.store.schema import Schema
from producer.client import merging, preparing, splitting
from producer.client.blocking import tell, timed_out
from producer.client.publishing import Publisher
from producer.client.subscription import Waits

T = TypeVar("T")

#: Submissions at once: a thousand coroutines must not all run in one turn of the event loop.
MAX_SUBMISSIONS = 32
#: For what blocks or computes: publishing, packing, unpacking. Few, because each thread that
#: computes takes its turn with the event loop's.
THREADS = 2


class AsyncRerankClient:
    """Submits jobs and awaits their results without blocking the event loop.

    Belongs to the event loop, and to the process, in which it is first used; elsewhere, its methods
    raise `ClientUnusable`. `settings` are read from the environment unless given; `redis_url`
    replaces theirs.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        self.settings = (settings or Settings.load()).with_redis_url(redis_url)
        self._schema = Schema(self.settings)
        self._redis = redis.asyncio.Redis.from_url(
            self.settings.redis_url.get_secret_value(),
            **connection_options(self.settings, asynchronous=True),
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="rerankq")
        #: Asking the workers takes a second, and must not keep others from being served.
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="rerankq-ask")
        self._questions: dict[Any, asyncio.Task[tuple[str, ...]]] = {}
        self._store = AsyncJobStore(self._redis, self._schema, self._threads)
        self._submissions = asyncio.Semaphore(MAX_SUBMISSIONS)
        self._publisher = Publisher(self.settings)
        self._waits = Waits(self._redis, self._do, self._schema)
        self._background: set[asyncio.Task[None]] = set()
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._closed = False

    async def submit(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        *,
        top_k: int | None = None,
        model: str | None = None,
        job_id: str | None = None,
        allow_downgrade: bool = True,
        priority: int = names.PRIORITY_SINGLE,
    ) -> str:
        """See `RerankClient.submit`; here, to be interrupted is to be cancelled."""
        self._check_home()
        job = await self._single(query, documents, top_k, model, job_id, allow_downgrade)
        await self._queue([job], priority, () if job_id else asyncio.CancelledError)
        return job.id

    async def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        *,
        model: str | None = None,
        allow_downgrade: bool = True,
        priority: int = names.PRIORITY_BULK,
        pairs_per_job: int | None = None,
    ) -> list[str]:
        """See `RerankClient.submit_many`; here, to be interrupted is to be cancelled."""
        self._check_home()
        preparing.check_priority(priority)
        made = await self._in_thread(
            preparing.many, requests, self.settings, model, pairs_per_job, allow_downgrade
        )
        await self._queue(made, priority, BaseException)
        return [job.id for job in made]

    async def submit_job(self, job: jobs.Job, *, priority: int = names.PRIORITY_BULK) -> str:
        """See `RerankClient.submit_job`."""
        self._check_home()
        async with self._submissions:
            preparing.check_priority(priority)
            how = await self._in_thread(splitting.split, job, self.settings)
            try:
                if how is not None:
                    accept_split = submissions.accept_split
                    how = await self._do(
                        await self._in_thread(accept_split, self._schema, job, how)
                    )
                if how is None:
                    how = await self._send(job, priority)
                for part in splitting.parts(job, how) if how else ():
                    await self._send(part, priority)
            except RedisUnavailable as error:
                error.submitted = (job.id,)
                raise
            except RerankError as error:
                if how is not None:
                    await self._withdraw(error, [job.id])
                raise
        return job.id

    async def _send(self, job: jobs.Job, priority: int) -> jobs.SplitJob | None:
        """See `RerankClient._send`."""
        accept = await self._in_thread(submissions.accept, self._schema, job, priority)
        accepted = await self._do(accept)
        if not accepted.sent and accepted.split is None:
            await self._in_thread(self._publisher.send, job, priority)
            await self._do(submissions.mark_sent(self._schema, job.id))
        return accepted.split

    async def _single(self, *arguments: Any) -> jobs.Job:
        query, documents, *others = arguments
        async with self._submissions:
            return await self._in_thread(preparing.single, query, documents, self.settings, *others)

    async def _queue(
        self,
        made: Sequence[jobs.Job],
        priority: int,
        withdrawn_after: type[BaseException] | tuple[()],
    ) -> None:
        """Queue jobs, one after the other; after such an error, cancel and forget them all.

        A submission that is under way when the caller is cancelled comes to its end before that:
        otherwise it would queue a job that was cancelled already.
        """
        begun: list[str] = []
        stopped = asyncio.Event()

        async def send() -> None:
            for job in made:
                if stopped.is_set():
                    return
                begun.append(job.id)
                await self.submit_job(job, priority=priority)

        sending = self._in_background(send())
        try:
            await asyncio.shield(sending)
        except BaseException as error:
            stopped.set()
            if isinstance(error, withdrawn_after):
                await self._withdraw(error, begun, after=sending)
            raise

    async def _withdraw(
        self,
        error: BaseException,
        job_ids: list[str],
        after: asyncio.Task[None] | None = None,
    ) -> None:
        """See `RerankClient._withdraw`; also if the caller is cancelled meanwhile."""

        async def withdraw() -> None:
            if after is not None:
                await asyncio.wait([after])
            left = list(job_ids)
            try:
                while left:
                    with suppress(JobNotFound):
                        await self._cancel(left[0])
                        await self._forget(left[0])
                    del left[0]
            except RedisUnavailable:
                pass  # the error tells
            tell(error, left)

        await asyncio.shield(self._in_background(withdraw()))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `aclose` waits for, whoever else still does."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)
        return task

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits sees it; nobody has to

    async def result(self, job_id: str, timeout: float | None = 300.0) -> jobs.JobResult:  # noqa: ASYNC109
        """See `RerankClient.result`."""
        self._check_home()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        ended = await self._waits.outcome(job_id, timeout)
        if isinstance(ended, JobSplit):
            ended = await self._of_parts(ended.split, deadline)
        if ended is None:
            raise timed_out(await self.status(job_id), timeout)
        return jobs.result_of(ended)

    async def _of_parts(self, how: jobs.SplitJob, deadline: float) -> jobs.OutcomeOrError | None:
        """See `RerankClient._of_parts`."""
        left = max(0.0, deadline - time.monotonic())
        timeout = None if left == math.inf else left

        async def part(part_id: str) -> tuple[str, jobs.OutcomeOrError | None]:
            return part_id, await self._waits.outcome(part_id, timeout)

        waits = [asyncio.ensure_future(part(part_id)) for part_id in how.part_ids]
        results: dict[str, jobs.JobResult] = {}
        try:
            for wait in asyncio.as_completed(waits):
                part_id, ended = await wait
                if ended is None:
                    return None
                if not isinstance(ended, jobs.JobResult):
                    await self._give_up(how)
                    if isinstance(ended, RerankError):
                        return ended
                    return merging.merge_failure(how, part_id, ended)
                results[part_id] = ended
        finally:
            for each in waits:
                each.cancel()
        in_order = [results[part_id] for part_id in how.part_ids]
        return await self._in_thread(merging.merge_results, how, in_order)

    async def _give_up(self, how: jobs.SplitJob) -> None:
        """See `RerankClient._give_up`."""
        for part_id in how.part_ids:
            with suppress(JobNotFound):
                await self._cancel(part_id)
            await self._do(dead_letters.drop(self._schema, part_id))

    async def rerank(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        *,
        top_k: int | None = None,
        model: str | None = None,
        job_id: str | None = None,
        allow_downgrade: bool = True,
        priority: int = names.PRIORITY_SINGLE,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> jobs.JobResult:
        """See `RerankClient.rerank`; here, to be interrupted is to be cancelled."""
        self._check_home()
        job = await self._single(query, documents, top_k, model, job_id, allow_downgrade)
        await self._queue([job], priority, () if job_id else asyncio.CancelledError)
        began = time.monotonic()
        try:
            try:
                return await self.result(job.id, timeout)
            except MixedModels as error:
                left = None if timeout is None else timeout + began - time.monotonic()
                return await self._downgraded(job, error, priority, left)
        except ResultTimeout as error:
            await self._withdraw(error, [job.id])
            raise
        except asyncio.CancelledError as error:
            if job_id is None:
                await self._withdraw(error, [job.id])
            raise
        except RedisUnavailable as error:
            error.submitted = (job.id,)
            raise

    async def _downgraded(
        self, job: jobs.Job, mixed: MixedModels, priority: int, timeout_s: float | None
    ) -> jobs.JobResult:
        """See `RerankClient._downgraded`."""
        again = merging.with_smaller_model(job, mixed, self.settings, jobs.new_job_id())
        try:
            await self.submit_job(again, priority=priority)
            result = await self.result(again.id, timeout_s)
        except BaseException as error:
            await self._withdraw(error, [again.id])
            raise
        await self.forget(again.id)
        return merging.as_downgraded(result, job.id, mixed)

    @overload
    async def status(self, job_id: str) -> jobs.JobStatus: ...
    @overload
    async def status(self, job_id: None = None) -> jobs.QueueStatus: ...
    async def status(self, job_id: str | None = None) -> jobs.JobStatus | jobs.QueueStatus:
        """See `RerankClient.status`."""
        self._check_home()
        if job_id is not None:
            found = await self._do(statuses.find(self._schema, job_id))
            if not isinstance(found, jobs.SplitJob):
                return found
            of_parts = [
                await self._do(statuses.fetch(self._schema, each)) for each in found.part_ids
            ]
            return merging.merge_statuses(found, of_parts)
        return await self._do(overview.status(self._schema, await self.workers()))

    async def cancel(self, job_id: str) -> bool:
        """See `RerankClient.cancel`."""
        self._check_home()
        return await self._cancel(job_id)

    async def _cancel(self, job_id: str) -> bool:
        found = await self._do(statuses.find(self._schema, job_id))
        if isinstance(found, jobs.SplitJob):
            cancelled = False
            for part_id in found.part_ids:
                with suppress(JobNotFound):  # not submitted yet
                    cancelled |= await self._cancel(part_id)
            return cancelled
        return await self._do(
            outcomes.finish(self._schema, jobs.cancellation(found, preparing.CANCELLED))
        )

    async def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """See `RerankClient.workers`. Tasks that ask at the same time share one answer."""
        self._check_home()
        key = timeout_s, at_most
        question = self._questions.get(key)
        if question is None:
            question = asyncio.ensure_future(self._ask(timeout_s, at_most))
            self._questions[key] = question
            question.add_done_callback(lambda _: self._questions.pop(key))
        return await asyncio.shield(question)

    async def _ask(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        await self._do(operation.ping())
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self._publisher.workers, timeout_s, at_most)

    async def forget(self, job_id: str) -> None:
        """See `RerankClient.forget`."""
        self._check_home()
        await self._forget(job_id)

    async def _forget(self, job_id: str) -> None:
        how = await self._do(outcomes.forget(self._schema, job_id))
        for part_id in how.part_ids if how else ():
            await self._do(outcomes.forget(self._schema, part_id))

    async def aclose(self) -> None:
        """Close the connections. Calls that are under way raise `ClientUnusable`.

        May be called more than once. After the event loop of the client has ended, its threads end,
        and Python closes its connections with a `ResourceWarning`.
        """
        self._closed = True
        if self._home not in (None, _here()):
            self._shut_down()
            return
        try:
            await self._waits.aclose(closed_error())
            while self._background:  # submissions under way end, and what is to be is withdrawn
                await asyncio.gather(*self._background, return_exceptions=True)
        finally:
            self._shut_down()
            await asyncio.gather(*self._questions.values(), return_exceptions=True)
            for pool in (self._threads, self._asking):
                await asyncio.to_thread(pool.shutdown)
            await self._store.aclose()

    def _shut_down(self) -> None:
        for pool in (self._threads, self._asking):
            pool.shutdown(wait=False, cancel_futures=True)
        self._publisher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _do(self, operation: Operation[T]) -> T:
        with self._closing_explained():
            return await self._store.execute(operation)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._closing_explained():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, call, *arguments)

    @contextmanager
    def _closing_explained(self) -> Iterator[None]:
        """Turn what a client that is closed meanwhile makes of a call into our error."""
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task and not task.cancelling():
                raise closed_error() from error
            raise
        except RuntimeError as error:  # of an executor that was shut down
            if self._closed:
                raise closed_error() from error
            raise

    def _check_home(self) -> None:
        """Raise `ClientUnusable` if the client is closed, or belongs to another loop or process."""
        if self._closed:
            raise closed_error()
        here = _here()
        self._home = self._home or here
        if self._home != here:
            other = "process" if self._home[1] != here[1] else "event loop"
            raise ClientUnusable(
                f"this client was first used in another {other}: create one in each {other}, and"
                " close it there"
            )


def _here() -> tuple[asyncio.AbstractEventLoop, int]:
    return asyncio.get_running_loop(), os.getpid()
