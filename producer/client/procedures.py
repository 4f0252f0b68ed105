"""Procedures of both clients: queue and withdraw jobs, wait for results, cancel and forget.

A procedure is a generator of steps (`producer.client.steps`). The blocking client runs each step,
and the asyncio client awaits it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from contract import jobs, limits
from contract.columns import JobColumns
from contract.errors import (
    InvalidInput,
    JobConflict,
    JobNotFound,
    JobSplit,
    MixedModels,
    RedisUnavailable,
    RerankError,
    ResultExpired,
    ResultTimeout,
)
from contract.printable import counted
from contract.store import dead_letters, outcomes, statuses, submissions
from contract.store.operation import Schema
from producer.client import merging, splitting
from producer.client.preparing import PreparedJobs
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, call, execute, uninterrupted, wait
from producer.client.watch import deadline_after, seconds_until


def queue(
    schema: Schema,
    publisher: Publisher,
    job: jobs.Job,
    priority: int,
    trace: Mapping[str, str] | None = None,
    group: str | None = None,
) -> Procedure[str]:
    """Queue a job, or its parts if it is too large; return its id.

    If a part is refused, the others are withdrawn. After `RedisUnavailable`, the job may be queued:
    its id is in the error's `submitted`.
    """
    split = yield from call(splitting.split, job, schema.settings)
    try:
        if split is not None:
            offer = yield from call(submissions.accept_split, schema, job, split)
            split = yield from execute(offer)
        if split is None:
            split = yield from _queue_whole(schema, publisher, job, priority, trace, group)
        for part in splitting.parts(job, split) if split else ():
            yield from _queue_whole(schema, publisher, part, priority, trace, group)
    except RedisUnavailable as error:
        error.submitted = (job.id,)
        raise
    except RerankError as error:
        if split is not None:
            yield from withdraw(schema, error, [job.id])
        raise
    return job.id


def queue_columns(
    schema: Schema, publisher: Publisher, job: JobColumns, priority: int
) -> Procedure[str]:
    """Queue a job that is within the limits, as `queue` does; return its id."""
    yield from call(limits.check, job, schema.settings)
    try:
        split = yield from _queue_whole(schema, publisher, job, priority)
    except RedisUnavailable as error:
        error.submitted = (job.id,)
        raise
    if split is not None:
        raise JobConflict(f"job id {job.id} belongs to a job that is split; choose another id")
    return job.id


def _queue_whole(
    schema: Schema,
    publisher: Publisher,
    job: jobs.Job | JobColumns,
    priority: int,
    trace: Mapping[str, str] | None = None,
    group: str | None = None,
) -> Procedure[jobs.SplitJob | None]:
    """Queue a job without splitting it; if it is already stored as split, return how."""
    offer = yield from call(submissions.accept, schema, job, priority, group, trace)
    accepted = yield from execute(offer)
    if not accepted.sent and accepted.split is None:
        yield from call(publisher.send, job, priority, trace)
        yield from execute(submissions.mark_sent(schema, job.id))
    return accepted.split


def withdraw(schema: Schema, error: BaseException, job_ids: Sequence[str]) -> Procedure[None]:
    """Cancel and forget jobs after an error, even if the caller is cancelled in the meantime.

    If that fails because Redis is away, the ids of the remaining jobs are in the error's
    `submitted`.
    """
    return uninterrupted(_withdraw(schema, error, job_ids))


def _withdraw(schema: Schema, error: BaseException, job_ids: Sequence[str]) -> Procedure[None]:
    left = list(job_ids)
    try:
        while left:
            with suppress(JobNotFound):
                yield from cancel(schema, left[0])
                yield from forget(schema, left[0])
            del left[0]
    except RedisUnavailable:
        pass  # the ids of the remaining jobs are in `error`
    note_submitted(error, left)


def note_submitted(error: BaseException, job_ids: Sequence[str]) -> None:
    """Add the ids of jobs that may still be queued to an error of any class."""
    error.submitted = tuple(job_ids)  # type: ignore[attr-defined]
    if job_ids:
        left = counted(len(job_ids), "job")
        error.add_note(f"{left} may still be queued; the error's `submitted` has the ids")


def result(schema: Schema, job_id: str, timeout_s: float | None) -> Procedure[jobs.JobResult]:
    """Wait for a job to end, and return its result: see `RerankClient.result`."""
    deadline = deadline_after(timeout_s)
    ended = (yield from wait([job_id], timeout_s)).get(job_id)
    if isinstance(ended, JobSplit):
        if ended.split.of == "requests":
            raise InvalidInput(f"{job_id} is a batch: read the results of its parts")
        ended = yield from outcome_of_parts(schema, ended.split, deadline)
    if ended is None:
        state = (yield from status(schema, job_id)).state
        raise ResultTimeout(f"job {job_id} is still {state} after {timeout_s:g} s")
    return jobs.result_of(ended)


def outcome_of_parts(
    schema: Schema, split: jobs.SplitJob, deadline: float
) -> Procedure[jobs.OutcomeOrError | None]:
    """Return the outcome of a split job; None after the timeout."""
    results: dict[str, jobs.JobResult] = {}
    while missing := [each for each in split.part_ids if each not in results]:
        found = yield from wait(missing, seconds_until(deadline))
        if not found:
            return None
        for part_id, ended in found.items():
            if _is_lost(ended):
                return ended
            if not isinstance(ended, jobs.JobResult):
                yield from _cancel_parts(schema, split)
                if isinstance(ended, RerankError):
                    return ended
                return merging.merge_failure(split, part_id, ended)
            results[part_id] = ended
    in_order = [results[each] for each in split.part_ids]
    return (yield from call(merging.merge_results, split, in_order))


def _cancel_parts(schema: Schema, split: jobs.SplitJob) -> Procedure[None]:
    """Cancel all parts of a job after one has failed, because no part can be retried alone."""
    for part_id in split.part_ids:
        with suppress(JobNotFound):
            yield from cancel(schema, part_id)
        yield from execute(dead_letters.drop(schema, part_id))


#: How often a job is queued again after its record was lost.
MAX_RESUBMISSIONS = 3


def _is_lost(ended: object) -> bool:
    """Return whether a job that was accepted has no record, as after a failover of Redis."""
    return isinstance(ended, JobNotFound) and not isinstance(ended, ResultExpired)


def _result_of_queued(
    schema: Schema,
    publisher: Publisher,
    job: jobs.Job,
    prepared: PreparedJobs,
    timeout_s: float | None,
) -> Procedure[jobs.JobResult]:
    """Return the result of a job that was queued; queue it again if it or a part is lost."""
    deadline = deadline_after(timeout_s)
    left = MAX_RESUBMISSIONS
    while True:
        try:
            return (yield from result(schema, job.id, seconds_until(deadline)))
        except JobNotFound as error:
            if not _is_lost(error) or not left:
                raise
        left -= 1
        yield from queue(schema, publisher, job, prepared.priority, prepared.trace, prepared.group)


def result_of_query(
    schema: Schema, publisher: Publisher, prepared: PreparedJobs, timeout_s: float | None
) -> Procedure[jobs.JobResult]:
    """Return the result of a query after it was queued.

    If a smaller model scored only some of its parts, have that model score the whole query.
    """
    (job,) = prepared.jobs
    deadline = deadline_after(timeout_s)
    try:
        return (yield from _result_of_queued(schema, publisher, job, prepared, timeout_s))
    except MixedModels as mixed:
        again = merging.with_smaller_model(job, mixed, schema.settings, jobs.new_job_id())
        try:
            yield from queue(
                schema, publisher, again, prepared.priority, prepared.trace, prepared.group
            )
            left_s = seconds_until(deadline)
            merged = yield from _result_of_queued(schema, publisher, again, prepared, left_s)
        except GeneratorExit:  # the procedure was abandoned
            raise
        except BaseException as error:
            yield from withdraw(schema, error, [again.id])
            raise
        yield from forget(schema, again.id)
        return merging.as_downgraded(merged, job.id, mixed)


def give_up(schema: Schema, prepared: PreparedJobs, error: BaseException) -> Procedure[None]:
    """Withdraw a query after a timeout, or after its caller was interrupted.

    After `RedisUnavailable`, the job may continue: its id is in the error's `submitted`.
    """
    job_ids = [job.id for job in prepared.jobs]
    if isinstance(error, ResultTimeout) or prepared.is_withdrawn_after(error):
        yield from withdraw(schema, error, job_ids)
    elif isinstance(error, RedisUnavailable):
        error.submitted = tuple(job_ids)


#: The message in the outcome of a cancelled job.
CANCELLED = "cancelled by the caller"


def status(schema: Schema, job_id: str) -> Procedure[jobs.JobStatus]:
    """Return the status of a job; if it is split, the merged status of its parts."""
    found = yield from execute(statuses.find(schema, job_id))
    first_id = job_id
    if isinstance(found, jobs.SplitJob):
        parts = []
        for part_id in found.part_ids:
            parts.append((yield from execute(statuses.fetch(schema, part_id))))
        first_id = found.part_ids[0]
        found = merging.merge_statuses(found, parts)
    if found.state is not jobs.JobState.QUEUED:
        return found
    before = yield from execute(statuses.queued_before(schema, first_id))
    return found.model_copy(update={"queued_before": before})


def parts(schema: Schema, job_id: str) -> Procedure[tuple[str, ...]]:
    """Return the ids of the jobs that an id refers to."""
    found = yield from execute(statuses.find(schema, job_id))
    return found.part_ids if isinstance(found, jobs.SplitJob) else (job_id,)


def cancel(schema: Schema, job_id: str) -> Procedure[bool]:
    """Cancel a job, or all its parts; return whether any of them had not ended."""
    found = yield from execute(statuses.find(schema, job_id))
    if not isinstance(found, jobs.SplitJob):
        return (yield from execute(outcomes.finish(schema, jobs.cancellation(found, CANCELLED))))
    cancelled = False
    for part_id in found.part_ids:
        with suppress(JobNotFound):  # the part has not been submitted yet
            cancelled |= yield from cancel(schema, part_id)
    return cancelled


def forget(schema: Schema, job_id: str) -> Procedure[None]:
    """Remove the outcome of a job, and of its parts."""
    split = yield from execute(outcomes.forget(schema, job_id))
    for part_id in split.part_ids if split else ():
        yield from execute(outcomes.forget(schema, part_id))
