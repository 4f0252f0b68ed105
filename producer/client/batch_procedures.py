"""Procedures of both clients that submit, cancel, forget and withdraw the jobs of a batch.

A procedure is a generator of steps: see `producer.client.steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from contract import jobs
from contract.errors import (
    InvalidInput,
    JobNotFound,
    RedisUnavailable,
)
from contract.store import batches, outcomes
from contract.store.batches import ReadJob, StoredBatch
from contract.store.operation import Schema, together
from producer.client import procedures
from producer.client.preparing import PreparedJobs
from producer.client.steps import Procedure, call, execute, uninterrupted

#: The number of outcomes that are recorded or removed in one round trip.
CHANGED_AT_ONCE = 100


def accept(schema: Schema, prepared: PreparedJobs) -> Procedure[StoredBatch]:
    """Store which jobs are the parts of a batch. Raises `JobConflict` if the id is taken.

    A batch without jobs is not stored.
    """
    if prepared.batch is None:
        split = jobs.SplitJob(job_id=jobs.new_job_id(), bounds=(0, 0), top_k=None, of="requests")
        return StoredBatch(split, prepared.label)
    offer = yield from call(batches.accept, schema, prepared.batch, prepared.jobs, prepared.label)
    return (yield from execute(offer))


def find(schema: Schema, job_id: str) -> Procedure[StoredBatch | None]:
    """Return the record of a batch; None if the id is a job's. Raises `JobNotFound`."""
    try:
        return (yield from execute(batches.find(schema, job_id)))
    except InvalidInput:
        return None


def cancel(schema: Schema, job_id: str) -> Procedure[bool]:
    """Cancel a job, or all jobs of a batch; return whether any of them had not ended."""
    batch = yield from find(schema, job_id)
    if batch is None:
        return (yield from procedures.cancel(schema, job_id))
    return bool((yield from cancel_batch(schema, batch)))


def cancel_batch(schema: Schema, batch: StoredBatch) -> Procedure[int]:
    """Cancel the jobs of a batch that have not ended; return their number.

    Jobs that are being submitted are cancelled by the process that submits them, because the batch
    is marked first.
    """
    cancelled = 0
    yield from execute(batches.note(schema, batch.id, "cancelled_at"))
    for names in batch.names():
        cancelled += yield from _cancel_jobs(schema, batch.id, names)
    return cancelled


def _cancel_jobs(schema: Schema, batch_id: str, names: Sequence[str]) -> Procedure[int]:
    """Cancel those of the jobs whose ids end with `names` that have not ended."""
    cancelled = 0
    found = yield from execute(batches.read_open(schema, batch_id, names))
    for start in range(0, len(found), CHANGED_AT_ONCE):
        some = [(names[each.place], each) for each in found[start : start + CHANGED_AT_ONCE]]
        whole = [_cancellation(batch_id, *each) for each in some if not each[1].is_split]
        changes = together([outcomes.finish(schema, each) for each in whole])
        cancelled += sum((yield from execute(changes))) if whole else 0
        for name in (name for name, each in some if each.is_split):
            with suppress(JobNotFound):
                cancelled += yield from procedures.cancel(schema, f"{batch_id}.{name}")
    return cancelled


def _cancellation(batch_id: str, name: str, found: ReadJob) -> jobs.Failure:
    return jobs.Failure(
        job_id=f"{batch_id}.{name}",
        code=jobs.CANCELLED,
        message=procedures.CANCELLED,
        retryable=False,
        attempts=found.attempts,
    )


def forget(schema: Schema, job_id: str) -> Procedure[None]:
    """Remove the outcome of a job, or of all jobs of a batch with its record."""
    try:
        batch = yield from find(schema, job_id)
    except JobNotFound:
        batch = None
    if batch is None:
        yield from procedures.forget(schema, job_id)
        return
    for names in batch.names():
        yield from _forget_jobs(schema, batch.id, names)
    yield from execute(batches.remove(schema, batch.id))


def _forget_jobs(schema: Schema, batch_id: str, names: Sequence[str]) -> Procedure[None]:
    """Remove the outcomes of the jobs whose ids end with `names`."""
    for start in range(0, len(names), CHANGED_AT_ONCE):
        some = names[start : start + CHANGED_AT_ONCE]
        removals = [outcomes.forget(schema, f"{batch_id}.{name}") for name in some]
        for split in (yield from execute(together(removals))):
            for part_id in split.part_ids if split else ():
                yield from execute(outcomes.forget(schema, part_id))


def withdraw(
    schema: Schema, error: BaseException, stored: StoredBatch | None, begun: Sequence[str]
) -> Procedure[None]:
    """Cancel and forget the jobs of a batch after an error, and remove its record.

    It finishes even if the caller is cancelled in the meantime. If it fails because Redis is away,
    the ids of jobs that may still be queued are in the error's `submitted`. They are there too if
    the batch was submitted before, because its jobs may have results.
    """
    return uninterrupted(_withdraw(schema, error, stored, begun))


def _withdraw(
    schema: Schema, error: BaseException, stored: StoredBatch | None, begun: Sequence[str]
) -> Procedure[None]:
    left = list(begun)
    try:
        if stored is not None and stored.is_new:
            while left:
                names = [each.removeprefix(f"{stored.id}.") for each in left[:CHANGED_AT_ONCE]]
                yield from _cancel_jobs(schema, stored.id, names)
                yield from _forget_jobs(schema, stored.id, names)
                del left[:CHANGED_AT_ONCE]
            yield from execute(batches.remove(schema, stored.id))
    except RedisUnavailable:
        pass  # the ids of the remaining jobs are in `error`
    procedures.note_submitted(error, left)
