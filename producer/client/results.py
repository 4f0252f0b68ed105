"""Procedures that wait for the result of a job, and merge it from those of its parts."""

from __future__ import annotations

from contextlib import suppress

from contract import jobs
from contract.errors import (
    JobNotFound,
    JobSplit,
    MixedModels,
    RedisUnavailable,
    RerankError,
    ResultTimeout,
)
from contract.store import dead_letters
from contract.store.operation import Schema
from producer.client import job_control, merging
from producer.client.prepared import PreparedJobs
from producer.client.publishing import Publisher
from producer.client.queueing import queue, withdraw
from producer.client.steps import Procedure, call, execute, wait
from producer.client.watch import deadline_after, seconds_until


def result(schema: Schema, job_id: str, timeout_s: float | None) -> Procedure[jobs.JobResult]:
    """Wait for a job to end, and return its result: see `RerankClient.result`."""
    deadline = deadline_after(timeout_s)
    ended = (yield from wait([job_id], timeout_s)).get(job_id)
    if isinstance(ended, JobSplit):
        ended = yield from _outcome_of_parts(schema, ended.split, deadline)
    if ended is None:
        state = (yield from job_control.status(schema, job_id)).state
        raise ResultTimeout(f"job {job_id} is still {state} after {timeout_s:g} s")
    return jobs.result_of(ended)


def _outcome_of_parts(
    schema: Schema, split: jobs.SplitJob, deadline: float
) -> Procedure[jobs.OutcomeOrError | None]:
    """Return the outcome of a job that is split; None if it has none in time."""
    results: dict[str, jobs.JobResult] = {}
    while missing := [each for each in split.part_ids if each not in results]:
        found = yield from wait(missing, seconds_until(deadline))
        if not found:
            return None
        for part_id, ended in found.items():
            if not isinstance(ended, jobs.JobResult):
                yield from _cancel_parts(schema, split)
                if isinstance(ended, RerankError):
                    return ended
                return merging.merge_failure(split, part_id, ended)
            results[part_id] = ended
    in_order = [results[each] for each in split.part_ids]
    return (yield from call(merging.merge_results, split, in_order))


def _cancel_parts(schema: Schema, split: jobs.SplitJob) -> Procedure[None]:
    """Cancel all parts of a job of which one has failed; none can be retried by itself."""
    for part_id in split.part_ids:
        with suppress(JobNotFound):
            yield from job_control.cancel(schema, part_id)
        yield from execute(dead_letters.drop(schema, part_id))


def result_of_query(
    schema: Schema, publisher: Publisher, prepared: PreparedJobs, timeout_s: float | None
) -> Procedure[jobs.JobResult]:
    """Return the result of one query that was queued just now.

    If a smaller model scored a part of it only, that model scores all of it.
    """
    (job,) = prepared.jobs
    deadline = deadline_after(timeout_s)
    try:
        return (yield from result(schema, job.id, timeout_s))
    except MixedModels as mixed:
        again = merging.with_smaller_model(job, mixed, schema.settings, jobs.new_job_id())
        try:
            yield from queue(schema, publisher, again, prepared.priority)
            merged = yield from result(schema, again.id, seconds_until(deadline))
        except GeneratorExit:  # nobody runs this procedure any more
            raise
        except BaseException as error:
            yield from withdraw(schema, error, [again.id])
            raise
        yield from job_control.forget(schema, again.id)
        return merging.as_downgraded(merged, job.id, mixed)


def give_up(schema: Schema, prepared: PreparedJobs, error: BaseException) -> Procedure[None]:
    """Withdraw a query whose result did not come in time, or whose caller was interrupted.

    The `submitted` of a `RedisUnavailable` has the id of its job, which may go on.
    """
    job_ids = [job.id for job in prepared.jobs]
    if isinstance(error, ResultTimeout) or prepared.is_withdrawn_after(error):
        yield from withdraw(schema, error, job_ids)
    elif isinstance(error, RedisUnavailable):
        error.submitted = tuple(job_ids)
