"""Procedures of both clients on batches: follow, cancel and forget many jobs together.

A procedure is a generator of steps: see `producer.client.steps`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from contract import jobs
from contract.batches import BatchProgress, RunProgress
from contract.errors import (
    InvalidInput,
    JobFailed,
    JobNotFound,
    JobSplit,
    RedisUnavailable,
    RerankError,
    ResultTimeout,
)
from contract.store import batches, outcomes, runs
from contract.store.batches import MISSING, Counts, Marks, ReadJob, StoredBatch
from contract.store.operation import Schema, together
from contract.store.statuses import not_found
from producer.client import procedures
from producer.client.batch_jobs import EndedJobs
from producer.client.preparing import PreparedJobs
from producer.client.steps import Procedure, call, execute, heard, uninterrupted
from producer.client.watch import seconds_until

#: The number of outcomes that are recorded or removed in one round trip.
CHANGED_AT_ONCE = 100
#: How often a process that submits a batch says that it is alive.
ALIVE_EVERY_S = 1.0

QUEUED, RUNNING, DONE, FAILED, CANCELLED = (state.value for state in jobs.JobState)


def accept(schema: Schema, prepared: PreparedJobs) -> Procedure[StoredBatch]:
    """Store which jobs are the parts of a batch. Raises `JobConflict` if the id is taken.

    A batch without jobs is not stored.
    """
    if prepared.batch is None:
        split = jobs.SplitJob(job_id=jobs.new_job_id(), bounds=(0, 0), top_k=None, of="requests")
        return StoredBatch(split, prepared.label)
    offer = yield from call(batches.accept, schema, prepared.batch, prepared.jobs, prepared.label)
    return (yield from execute(offer))


class Submission:
    """The submission of a batch: it says that it is alive, and ends if the batch is cancelled."""

    def __init__(self, schema: Schema, batch: StoredBatch) -> None:
        self._schema = schema
        self._batch = batch
        self._noted_at = time.monotonic()

    def is_cancelled(self) -> Procedure[bool]:
        """Return whether another caller has cancelled the batch; ask Redis once a second."""
        if time.monotonic() - self._noted_at < ALIVE_EVERY_S:
            return False
        cancelled = yield from execute(batches.note(self._schema, self._batch.id, "alive_at"))
        self._noted_at = time.monotonic()
        return cancelled

    def finish(self) -> Procedure[None]:
        """Note that all jobs are queued; cancel them if the batch was cancelled meanwhile."""
        if (yield from execute(batches.note(self._schema, self._batch.id, "queued_at"))):
            yield from cancel_batch(self._schema, self._batch)


@dataclass
class Follower:
    """Counts the jobs of a batch; jobs that were counted as done are not read again."""

    batch: StoredBatch
    _settled: dict[int, Counts] = field(default_factory=dict)

    def count(self, schema: Schema, marks: Marks) -> Procedure[Counts]:
        """Count all jobs by state; if they have all ended, also for others who count them."""
        if marks.counts is not None:
            return marks.counts
        total = Counts()
        for place, names in enumerate(self.batch.names()):
            some = self._settled.get(place)
            if some is None:
                some = yield from execute(batches.count(schema, self.batch.id, names))
                if some.settled:
                    self._settled[place] = some
            total += some
        if total.settled and self.batch.jobs:
            yield from execute(batches.keep_counts(schema, self.batch.id, total))
        return total


def progress(schema: Schema, follower: Follower) -> Procedure[BatchProgress]:
    """Return the progress of a batch."""
    marks = yield from execute(batches.read_marks(schema, follower.batch.id))
    counts = yield from follower.count(schema, marks)
    return _progress(follower.batch, marks, counts)


def _progress(batch: StoredBatch, marks: Marks, counts: Counts) -> BatchProgress:
    pairs = batch.pairs or sum(each.pairs for each in counts.amounts.values())
    is_open = counts.of(QUEUED, RUNNING).jobs or (marks.submitting and counts.of(MISSING).jobs)
    done, failed = counts.of(DONE), counts.of(FAILED, CANCELLED)
    until = counts.now if is_open else counts.ended_at
    speed = left_s = None
    if counts.started_at is not None and until is not None and done.pairs:
        speed = done.pairs / max(until - counts.started_at, 1e-6)
    if not is_open:
        left_s = 0.0
    elif speed:
        not_ended = pairs - done.pairs - failed.pairs
        # The pairs of jobs that will stay missing are not known.
        left_s = (not_ended if marks.submitting else counts.of(QUEUED, RUNNING).pairs) / speed
    return BatchProgress(
        batch_id=batch.id,
        label=batch.label,
        submitted_at=batch.submitted_at,
        started_at=counts.started_at,
        ended_at=None if is_open else counts.ended_at,
        submitting=marks.submitting,
        jobs=batch.jobs,
        waiting=counts.of(QUEUED).jobs,
        running=counts.of(RUNNING).jobs,
        done=done.jobs,
        failed=counts.of(FAILED).jobs,
        cancelled=counts.of(CANCELLED).jobs,
        missing=counts.of(MISSING).jobs,
        requests=batch.requests,
        done_requests=done.requests,
        failed_requests=failed.requests,
        pairs=pairs,
        done_pairs=done.pairs,
        pairs_per_s=speed,
        left_s=left_s,
    )


def find(schema: Schema, job_id: str) -> Procedure[StoredBatch | None]:
    """Return the record of a batch; None if the id is a job's. Raises `JobNotFound`."""
    try:
        return (yield from execute(batches.find(schema, job_id)))
    except InvalidInput:
        return None


def status(schema: Schema, job_id: str) -> Procedure[jobs.JobStatus]:
    """Return the status of a job; if it is a batch or split, the merged status of its parts."""
    batch = yield from find(schema, job_id)
    if batch is None:
        return (yield from procedures.status(schema, job_id))
    marks = yield from execute(batches.read_marks(schema, batch.id))
    counts = Counts()
    for names in batch.names():
        counts += yield from execute(batches.count(schema, batch.id, names, with_outcomes=True))
    if counts.of(MISSING).jobs and not marks.submitting and not marks.cancelled:
        raise not_found(batch.id)
    found = _progress(batch, marks, counts)
    codes = {jobs.JobState.FAILED: counts.code, jobs.JobState.CANCELLED: jobs.CANCELLED}
    return jobs.JobStatus(
        job_id=batch.id,
        state=found.state,
        pairs=found.pairs,
        requests=found.requests,
        attempts=counts.attempts,
        submitted_at=found.submitted_at,
        started_at=found.started_at,
        ended_at=found.ended_at,
        code=codes.get(found.state),
        outcome_kept=counts.kept == batch.jobs,
    )


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
    schema: Schema, error: BaseException, prepared: PreparedJobs, begun: Sequence[str]
) -> Procedure[None]:
    """Cancel and forget the jobs of a batch after an error, and remove its record.

    It finishes even if the caller is cancelled in the meantime. If it fails because Redis is away,
    the ids of jobs that may still be queued are in the error's `submitted`.
    """
    return uninterrupted(_withdraw(schema, error, prepared, begun))


def _withdraw(
    schema: Schema, error: BaseException, prepared: PreparedJobs, begun: Sequence[str]
) -> Procedure[None]:
    left = list(begun)
    try:
        if prepared.batch is not None:
            batch_id = prepared.batch.job_id
            while left:
                names = [each.removeprefix(f"{batch_id}.") for each in left[:CHANGED_AT_ONCE]]
                yield from _cancel_jobs(schema, batch_id, names)
                yield from _forget_jobs(schema, batch_id, names)
                del left[:CHANGED_AT_ONCE]
            yield from execute(batches.remove(schema, batch_id))
    except RedisUnavailable:
        pass  # the ids of the remaining jobs are in `error`
    procedures.note_submitted(error, left)


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


def list_all(schema: Schema, at_most: int) -> Procedure[list[BatchProgress]]:
    """Return the progress of the batches that were submitted last, newest first."""
    found = []
    for batch_id in (yield from execute(batches.list_ids(schema, at_most))):
        with suppress(JobNotFound, InvalidInput):  # the record has expired, or is forgotten
            batch = yield from execute(batches.find(schema, batch_id))
            found.append((yield from progress(schema, Follower(batch))))
    return found


def list_runs(schema: Schema, at_most: int) -> Procedure[list[RunProgress]]:
    """Return the runs of `rescore` that were started last, newest first."""
    return (yield from execute(runs.fetch(schema, at_most)))
