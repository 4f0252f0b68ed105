"""Procedures of both clients that read the outcomes of a batch as its jobs end."""

from __future__ import annotations

import math

from contract import jobs
from contract.errors import JobFailed, JobSplit, RedisUnavailable, RerankError, ResultTimeout
from contract.store import batches, outcomes
from contract.store.batch_counts import MISSING
from contract.store.operation import Schema
from producer.client import procedures
from producer.client.batch_jobs import EndedJobs
from producer.client.steps import Procedure, execute, heard
from producer.client.watch import seconds_until


def next_ended(
    schema: Schema, ended: EndedJobs, deadline: float, timeout_s: float | None
) -> Procedure[dict[str, jobs.OutcomeOrError]]:
    """Return the outcomes of the next jobs that have ended, by id.

    Raises `ResultTimeout` after the deadline.
    """
    while True:
        while not ended.is_ready:
            wait_s = ended.seconds_until_reading()
            left_s = seconds_until(deadline)
            if wait_s == 0.0:
                yield from _read(schema, ended)
            elif left_s == 0.0:
                raise ResultTimeout(
                    f"{ended.remaining:,} of {ended.total:,} jobs of batch {ended.batch_id} have"
                    f" not ended after {timeout_s:g} s"
                )
            else:
                pause_s = wait_s if left_s is None else min(wait_s, left_s)
                ended.hear((yield from heard(pause_s)))
        job_ids = ended.take()
        found = yield from execute(outcomes.fetch(schema, job_ids))
        again = [job_id for job_id in job_ids if job_id not in found]
        ended.put_back(again)
        before = job_ids.index(again[0]) if again and ended.in_order else len(job_ids)
        if taken := [job_id for job_id in job_ids[:before] if job_id in found]:
            return {job_id: found[job_id] for job_id in taken}


def _read(schema: Schema, ended: EndedJobs) -> Procedure[None]:
    names = ended.to_read()
    found = yield from execute(batches.read_ended(schema, ended.batch_id, names))
    if any(each.state == MISSING for each in found):
        marks = yield from execute(batches.read_marks(schema, ended.batch_id))
        if marks.submitting:
            found = [each for each in found if each.state != MISSING]
    # Jobs that will stay missing come last.
    ended.add_read([(each.ended_at or math.inf, names[each.place]) for each in found])


def whole_outcome(
    schema: Schema, split: JobSplit, deadline: float
) -> Procedure[jobs.OutcomeOrError]:
    """Return the outcome of a query of a batch that is split into several jobs."""
    try:
        ended = yield from procedures.outcome_of_parts(schema, split.split, deadline)
    except (RedisUnavailable, JobFailed):
        raise
    except RerankError as error:  # parts of different models, or parts that are lost
        return error
    if ended is None:
        raise ResultTimeout(f"job {split.split.job_id} has not ended in time")
    return ended
