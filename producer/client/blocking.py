"""The blocking client."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Self, overload

from contract import jobs, names
from contract.errors import (
    JobNotFound,
    JobSplit,
    MixedModels,
    RedisUnavailable,
    RerankError,
    ResultTimeout,
)
from contract.settings import Settings
from contract.store import dead_letters, operation, outcomes, overview, statuses, submissions
from contract.store.blocking import JobStore
from contract.store.connection import connect, connect_subscribers
from contract.store.schema import Schema
from producer.client import merging, preparing, splitting
from producer.client.dead_letters import DeadLetters
from producer.client.publishing import Publisher
from producer.client.watch import Watch


class RerankClient:
    """Submits jobs and reads their results; safe to share between threads.

    `settings` are read from the environment unless given; `redis_url` replaces theirs.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        self.settings = (settings or Settings.load()).with_redis_url(redis_url)
        self._schema = Schema(self.settings)
        self._store = JobStore(connect(self.settings), self._schema)
        self._subscriptions = connect_subscribers(self.settings)
        self._publisher = Publisher(self.settings)
        self._letters = DeadLetters(self.settings, self._store, self._publisher)

    def submit(
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
        """Queue one query with its documents (strings, dicts or `Candidate`s); return the job's id.

        `top_k` keeps that many of the best, `model` asks for another than the worker's default,
        `priority` is 0 (first) to 9. Without `allow_downgrade`, no smaller model takes its place.
        With a `job_id` of the caller's choice, submitting again is harmless: a job is not scored
        again while its result can be read (RERANKQ_RESULT_TTL_S).

        A query of more candidates, or more bytes, than a job may have is queued as several jobs,
        whose ids begin with the one returned. That id stands for all of them: `result` merges them
        to what one job would have given, `status`, `cancel` and `forget` are of all.

        Raises `InvalidInput` before anything is sent, `Overloaded`, or `RedisUnavailable`. The last
        may come after the job was queued: its id is then in the error's `submitted`, and
        submitting again with that `job_id` is harmless. If the call is interrupted, a job without
        an id of the caller's choice is cancelled.
        """
        job = preparing.single(
            query, documents, self.settings, top_k, model, job_id, allow_downgrade
        )
        try:
            return self.submit_job(job, priority=priority)
        except KeyboardInterrupt as error:
            self._withdraw(error, [job.id] if job_id is None else [])
            raise

    def submit_many(
        self,
        requests: Iterable[jobs.Request | dict[str, Any]],
        *,
        model: str | None = None,
        allow_downgrade: bool = True,
        priority: int = names.PRIORITY_BULK,
        pairs_per_job: int | None = None,
    ) -> list[str]:
        """Queue many queries in as few jobs as the limits allow; return the jobs' ids, in order.

        The rankings of those jobs, one after the other, are in the order of `requests`. A worker
        fills its batches across the queries of a job.

        All or none: whatever is raised, an interruption too, the jobs that were queued before are
        cancelled and forgotten. Where that fails because Redis is away, their ids are in the
        error's `submitted`. Raises as `submit`; all requests are checked before the first is sent.
        """
        preparing.check_priority(priority)
        made = preparing.many(requests, self.settings, model, pairs_per_job, allow_downgrade)
        begun: list[str] = []
        try:
            for job in made:
                begun.append(job.id)
                self.submit_job(job, priority=priority)
        except BaseException as error:
            self._withdraw(error, begun)
            raise
        return begun

    def submit_job(self, job: jobs.Job, *, priority: int = names.PRIORITY_BULK) -> str:
        """Queue a job that `prepare.job` made; return its id. Raises as `submit`."""
        preparing.check_priority(priority)
        how = splitting.split(job, self.settings)
        try:
            if how is not None:
                how = self._store.execute(submissions.accept_split(self._schema, job, how))
            if how is None:
                how = self._send(job, priority)
            for part in splitting.parts(job, how) if how else ():
                self._send(part, priority)
        except RedisUnavailable as error:
            error.submitted = (job.id,)
            raise
        except RerankError as error:
            if how is not None:
                self._withdraw(error, [job.id])
            raise
        return job.id

    def _send(self, job: jobs.Job, priority: int) -> jobs.SplitJob | None:
        """Queue a job as it is, unless others stand for it: return which."""
        accepted = self._store.execute(submissions.accept(self._schema, job, priority))
        if not accepted.sent and accepted.split is None:
            self._publisher.send(job, priority)
            self._store.execute(submissions.mark_sent(self._schema, job.id))
        return accepted.split

    def _withdraw(self, error: BaseException, job_ids: Sequence[str]) -> None:
        """Cancel and forget jobs; put the ids of those for which that fails into the error."""
        left = list(job_ids)
        try:
            while left:
                with suppress(JobNotFound):
                    self.cancel(left[0])
                    self.forget(left[0])
                del left[0]
        except RedisUnavailable:
            pass  # the error tells
        tell(error, left)

    def result(self, job_id: str, timeout: float | None = 300.0) -> jobs.JobResult:
        """Return the job's result, waiting up to `timeout` seconds for it (None: for ever).

        Raises `JobFailed` if the job ended in a failure, `ResultTimeout`, `JobNotFound` (of which
        `ResultExpired` is one kind) or `RedisUnavailable`; of a query that was split, `MixedModels`
        if a smaller model scored some of it only. (`rerank` has it score all, then.)
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self.watch() as watch:
            outcome = watch.any_of([job_id], timeout).get(job_id)
            if isinstance(outcome, JobSplit):
                outcome = self._of_parts(watch, outcome.split, deadline)
        if outcome is None:
            raise timed_out(self.status(job_id), timeout)
        return jobs.result_of(outcome)

    def _of_parts(
        self, watch: Watch, how: jobs.SplitJob, deadline: float
    ) -> jobs.OutcomeOrError | None:
        """Return the outcome of a job that others stand for; None if it has none in time."""
        results: dict[str, jobs.JobResult] = {}
        while waiting := [each for each in how.part_ids if each not in results]:
            left = max(0.0, deadline - time.monotonic())
            found = watch.any_of(waiting, None if left == math.inf else left)
            if not found:
                return None
            for part_id, ended in found.items():
                if not isinstance(ended, jobs.JobResult):
                    self._give_up(how)
                    if isinstance(ended, RerankError):
                        return ended
                    return merging.merge_failure(how, part_id, ended)
                results[part_id] = ended
        return merging.merge_results(how, [results[each] for each in how.part_ids])

    def _give_up(self, how: jobs.SplitJob) -> None:
        """Cancel all parts of a job of which one has failed; none can be retried by itself."""
        for part_id in how.part_ids:
            with suppress(JobNotFound):
                self.cancel(part_id)
            self._store.execute(dead_letters.drop(self._schema, part_id))

    def rerank(
        self,
        query: str,
        documents: Iterable[preparing.Document],
        *,
        top_k: int | None = None,
        model: str | None = None,
        job_id: str | None = None,
        allow_downgrade: bool = True,
        priority: int = names.PRIORITY_SINGLE,
        timeout: float | None = 300.0,
    ) -> jobs.JobResult:
        """Submit and wait. Raises as `submit` and `result`.

        A job that is late is cancelled, and so is one without a `job_id` if the wait is
        interrupted. If Redis goes away meanwhile, the error's `submitted` has the job's id.
        """
        job = preparing.single(
            query, documents, self.settings, top_k, model, job_id, allow_downgrade
        )
        try:
            self.submit_job(job, priority=priority)
            began = time.monotonic()
            try:
                return self.result(job.id, timeout)
            except MixedModels as error:
                left = None if timeout is None else timeout + began - time.monotonic()
                return self._downgraded(job, error, priority, left)
        except ResultTimeout as error:
            self._withdraw(error, [job.id])
            raise
        except KeyboardInterrupt as error:
            self._withdraw(error, [job.id] if job_id is None else [])
            raise
        except RedisUnavailable as error:
            error.submitted = (job.id,)
            raise

    def _downgraded(
        self, job: jobs.Job, mixed: MixedModels, priority: int, timeout: float | None
    ) -> jobs.JobResult:
        """Have all of a job scored by the model that scored some of its parts."""
        again = merging.with_smaller_model(job, mixed, self.settings, jobs.new_job_id())
        try:
            self.submit_job(again, priority=priority)
            result = self.result(again.id, timeout)
        except BaseException as error:
            self._withdraw(error, [again.id])
            raise
        self.forget(again.id)
        return merging.as_downgraded(result, job.id, mixed)

    @overload
    def status(self, job_id: str) -> jobs.JobStatus: ...
    @overload
    def status(self, job_id: None = None) -> jobs.QueueStatus: ...
    def status(self, job_id: str | None = None) -> jobs.JobStatus | jobs.QueueStatus:
        """State of a job, or of the whole service (which asks the workers, for a second).

        Raises `JobNotFound` or `RedisUnavailable`.
        """
        if job_id is not None:
            found = self._store.execute(statuses.find(self._schema, job_id))
            if not isinstance(found, jobs.SplitJob):
                return found
            of_parts = [
                self._store.execute(statuses.fetch(self._schema, each)) for each in found.part_ids
            ]
            return merging.merge_statuses(found, of_parts)
        return self._store.execute(overview.status(self._schema, self.workers()))

    def cancel(self, job_id: str) -> bool:
        """End a job that has not ended; False if it had.

        A waiting job is never scored; the scores of a running one are thrown away. Raises
        `JobNotFound` or `RedisUnavailable`.
        """
        found = self._store.execute(statuses.find(self._schema, job_id))
        if isinstance(found, jobs.SplitJob):
            cancelled = False
            for part_id in found.part_ids:
                with suppress(JobNotFound):  # not submitted yet
                    cancelled |= self.cancel(part_id)
            return cancelled
        return self._store.execute(
            outcomes.finish(self._schema, jobs.cancellation(found, preparing.CANCELLED))
        )

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s`.

        Threads that ask at the same time share one answer. Raises `RedisUnavailable`.
        """
        self._store.execute(operation.ping())  # fails sooner than Celery's asking if Redis is away
        return self._publisher.workers(timeout_s, at_most)

    def forget(self, job_id: str) -> None:
        """Remove the outcome of an ended job from Redis before it expires."""
        how = self._store.execute(outcomes.forget(self._schema, job_id))
        for part_id in how.part_ids if how else ():
            self._store.execute(outcomes.forget(self._schema, part_id))

    def dead_letters(self, at_most: int | None = 1_000) -> list[jobs.DeadLetter]:
        """Return failed jobs that can be tried again, the last first; None returns all.

        A letter whose record cannot be read has the code `unreadable`. Raises `RedisUnavailable`.
        """
        return list(islice(self._letters.each(), at_most))

    def each_dead_letter(self) -> Iterator[jobs.DeadLetter]:
        """Yield them one by one, the last first, also while they are retried or dropped."""
        return self._letters.each()

    def count_dead_letters(self) -> int:
        """Return how many there are. Raises `RedisUnavailable`."""
        return self._letters.count()

    def dead_letter(self, job_id: str) -> jobs.DeadLetter:
        """Return one of them. Raises `JobNotFound` or `RedisUnavailable`."""
        return self._letters.get(job_id)

    def retry(self, job_id: str, *, model: str | None = None) -> None:
        """Queue a dead letter again under its id, as if new; with another model, if one is given.

        Its failure is forgotten. Raises `JobNotFound`, `PayloadMissing`, `PayloadInvalid`,
        `InvalidInput`, `Overloaded` or `RedisUnavailable`; it is still a dead letter then, unless
        the error's `submitted` has its id: it is queued, and a worker's sweep sends its message.
        """
        self._letters.retry(job_id, model)

    def drop(self, job_id: str) -> None:
        """Give up a dead letter and its payload; it stays failed. Raises `JobNotFound`."""
        self._letters.drop(job_id)

    def watch(self) -> Watch:
        """A subscription with which to wait for several jobs; use it in a `with` block."""
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


def tell(error: BaseException, submitted: Sequence[str]) -> None:
    """Put the ids of jobs that may still be queued into an error, whatever its kind."""
    error.submitted = tuple(submitted)  # type: ignore[attr-defined]
    if submitted:
        error.add_note(f"{len(submitted):,} jobs may still be queued: their ids are in .submitted")


def timed_out(status: jobs.JobStatus, timeout: float | None) -> ResultTimeout:
    return ResultTimeout(f"job {status.job_id} is still {status.state} after {timeout:g} s")
