"""Procedures about a job that was submitted: its state, cancelling and forgetting it."""

from __future__ import annotations

from contextlib import suppress

from contract import jobs
from contract.errors import JobNotFound
from contract.store import outcomes, statuses
from contract.store.operation import Schema
from producer.client import merging
from producer.client.steps import Procedure, execute

#: The message in the outcome of a cancelled job.
CANCELLED = "cancelled by its caller"


def status(schema: Schema, job_id: str) -> Procedure[jobs.JobStatus]:
    """Return the state of a job; of one that is split, that of the whole."""
    found = yield from execute(statuses.find(schema, job_id))
    if not isinstance(found, jobs.SplitJob):
        return found
    parts = []
    for part_id in found.part_ids:
        parts.append((yield from execute(statuses.fetch(schema, part_id))))
    return merging.merge_statuses(found, parts)


def cancel(schema: Schema, job_id: str) -> Procedure[bool]:
    """Cancel a job, or all its parts; return whether any of them had not ended."""
    found = yield from execute(statuses.find(schema, job_id))
    if not isinstance(found, jobs.SplitJob):
        return (yield from execute(outcomes.finish(schema, jobs.cancellation(found, CANCELLED))))
    cancelled = False
    for part_id in found.part_ids:
        with suppress(JobNotFound):  # not submitted yet
            cancelled |= yield from cancel(schema, part_id)
    return cancelled


def forget(schema: Schema, job_id: str) -> Procedure[None]:
    """Remove the outcome of a job, and of its parts."""
    split = yield from execute(outcomes.forget(schema, job_id))
    for part_id in split.part_ids if split else ():
        yield from execute(outcomes.forget(schema, part_id))
