"""Procedures of both clients that count the jobs of batches, and list batches and runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from contract import jobs
from contract.batches import BatchProgress, RunProgress
from contract.errors import InvalidInput, JobNotFound
from contract.store import batches, runs
from contract.store.batch_counts import MISSING, Counts
from contract.store.batches import Marks, StoredBatch
from contract.store.operation import Schema
from contract.store.statuses import not_found
from producer.client import procedures
from producer.client.batch_procedures import find
from producer.client.steps import Procedure, execute

QUEUED, RUNNING, DONE, FAILED, CANCELLED = (state.value for state in jobs.JobState)


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
