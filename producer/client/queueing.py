"""Procedures that queue a job, and that withdraw jobs which were queued in vain."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from contract import jobs
from contract.errors import JobNotFound, RedisUnavailable, RerankError
from contract.store import submissions
from contract.store.operation import Schema
from producer.client import job_control, splitting
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, call, execute, uninterrupted


def queue(schema: Schema, publisher: Publisher, job: jobs.Job, priority: int) -> Procedure[str]:
    """Queue a job, or its parts if it is too large; return its id.

    If a part is refused, the others are withdrawn. The `submitted` of a `RedisUnavailable` has the
    job's id: it may be queued.
    """
    split = yield from call(splitting.split, job, schema.settings)
    try:
        if split is not None:
            offer = yield from call(submissions.accept_split, schema, job, split)
            split = yield from execute(offer)
        if split is None:
            split = yield from _queue_whole(schema, publisher, job, priority)
        for part in splitting.parts(job, split) if split else ():
            yield from _queue_whole(schema, publisher, part, priority)
    except RedisUnavailable as error:
        error.submitted = (job.id,)
        raise
    except RerankError as error:
        if split is not None:
            yield from withdraw(schema, error, [job.id])
        raise
    return job.id


def _queue_whole(
    schema: Schema, publisher: Publisher, job: jobs.Job, priority: int
) -> Procedure[jobs.SplitJob | None]:
    """Queue a job as it is, unless it is on record as split: return how, then."""
    offer = yield from call(submissions.accept, schema, job, priority)
    accepted = yield from execute(offer)
    if not accepted.sent and accepted.split is None:
        yield from call(publisher.send, job, priority)
        yield from execute(submissions.mark_sent(schema, job.id))
    return accepted.split


def withdraw(schema: Schema, error: BaseException, job_ids: Sequence[str]) -> Procedure[None]:
    """Cancel and forget jobs because of an error, also if the caller is cancelled meanwhile.

    The error's `submitted` has the ids of those for which that fails because Redis is away.
    """
    return uninterrupted(_withdraw(schema, error, job_ids))


def _withdraw(schema: Schema, error: BaseException, job_ids: Sequence[str]) -> Procedure[None]:
    left = list(job_ids)
    try:
        while left:
            with suppress(JobNotFound):
                yield from job_control.cancel(schema, left[0])
                yield from job_control.forget(schema, left[0])
            del left[0]
    except RedisUnavailable:
        pass  # `error` has the ids of those that are left
    _note_submitted(error, left)


def _note_submitted(error: BaseException, job_ids: Sequence[str]) -> None:
    """Put the ids of jobs that may still be queued into an error, whatever its kind."""
    error.submitted = tuple(job_ids)  # type: ignore[attr-defined]
    if job_ids:
        error.add_note(f"{len(job_ids):,} jobs may still be queued: their ids are in .submitted")
