"""Operations on batches: many jobs that a client has submitted together.

The record of a batch is the record of a split job, whose parts are the jobs. The jobs do not know
their batch, so that it costs the workers nothing, and old workers score them too. Readers count the
jobs with a script, a limited number at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from contract import jobs
from contract.errors import InvalidInput
from contract.store import scripts
from contract.store.batch_counts import COUNTS, MISSING, Amount, Counts
from contract.store.operation import Operation, Schema
from contract.store.replication import replicated
from contract.store.statuses import not_found
from contract.store.submissions import check_same

#: The number of jobs that a script reads at once, in about two milliseconds of Redis.
READ_AT_ONCE = 500
#: The number of batches that are listed; older ones can still be found by their ids.
MOST_LISTED = 10_000
#: A process that submits a batch notes the time every second. After this time, it was killed.
SILENT_S = 60


@dataclass(frozen=True)
class StoredBatch:
    """The record of a batch."""

    split: jobs.SplitJob
    label: str | None = None
    submitted_at: float = 0.0
    #: The number of all pairs; 0 in a record of an earlier version.
    pairs: int = 0
    #: Whether this submission stored it, and not an earlier one.
    is_new: bool = False

    @property
    def id(self) -> str:
        return self.split.job_id

    @property
    def requests(self) -> int:
        """The number of requests of all jobs."""
        return self.split.bounds[-1]

    @property
    def jobs(self) -> int:
        """The number of jobs; none if there are no requests."""
        return len(self.split.bounds) - 1 if self.requests else 0

    def names(self) -> Iterator[tuple[str, ...]]:
        """Yield how the jobs' ids end, as many at a time as a script reads."""
        bounds = self.split.bounds
        for first in range(0, self.jobs, READ_AT_ONCE):
            some = bounds[first : first + READ_AT_ONCE + 1]
            yield tuple(f"{begin + 1}-{end}" for begin, end in pairwise(some))


@dataclass(frozen=True)
class Marks:
    """The events of a batch since it was stored."""

    submitting: bool
    cancelled: bool
    #: The counts of its jobs, if they were kept after the end.
    counts: Counts | None = None


@dataclass(frozen=True)
class ReadJob:
    """The state of one of the jobs that a scan has read."""

    #: Its index among the jobs that were read.
    place: int
    #: A `JobState`, or `MISSING`.
    state: str
    ended_at: float
    attempts: int
    #: Whether it is a query that is split into several jobs.
    is_split: bool


def accept(
    schema: Schema, split: jobs.SplitJob, parts: Sequence[jobs.Job], label: str | None = None
) -> Operation[StoredBatch]:
    """Store which jobs are the parts of a batch, and list it. Raises `JobConflict` when read."""
    keys, pairs, digest = schema.keys, sum(part.pairs for part in parts), _digest(parts)

    def read(replies: list[Any]) -> StoredBatch:
        on_record, submitted_at, is_new = replies[0]
        check_same(split.job_id, on_record, digest)
        return StoredBatch(split, label, float(submitted_at), pairs, is_new=bool(is_new))

    stored = scripts.call(
        "accept_batch",
        (keys.job(split.job_id), keys.batches),
        (
            split.job_id,
            digest,
            split.model_dump_json(exclude_defaults=True),
            label or "",
            pairs,
            schema.state_ttl_s,
            MOST_LISTED,
        ),
        read,
    )
    return replicated(schema, stored)


def _digest(parts: Sequence[jobs.Job]) -> str:
    """Return a hash by which to compare the jobs of two batches."""
    made = hashlib.sha256()
    for place, part in enumerate(parts):
        made.update(b"\n" * bool(place) + part.model_dump_json().encode())
    return made.hexdigest()


def note(schema: Schema, batch_id: str, what: str) -> Operation[bool]:
    """Note the time of `alive_at`, `queued_at` or `cancelled_at`; return whether it is cancelled.

    If there is no record of the batch, nothing is noted.
    """
    return scripts.call(
        "note_batch",
        (schema.keys.job(batch_id),),
        (what, schema.state_ttl_s),
        lambda replies: bool(replies[0]),
    )


def find(schema: Schema, batch_id: str) -> Operation[StoredBatch]:
    """Return the record of a batch.

    When read, raises `JobNotFound` if there is none, or `InvalidInput` if the id is a job's.
    """

    def send(pipe: Any) -> None:
        pipe.hmget(schema.keys.job(batch_id), "split", "label", "submitted_at", "pairs", "state")

    def read(replies: list[Any]) -> StoredBatch:
        split, label, submitted_at, pairs, state = replies[0]
        if split is None and state is None:
            raise not_found(batch_id)
        how = None if split is None else jobs.SplitJob.model_validate_json(split)
        if how is None or how.of != "requests":
            raise InvalidInput(f"{batch_id} is a job, and not a batch")
        named = label.decode() if label else None
        return StoredBatch(how, named, float(submitted_at or 0), int(pairs or 0))

    return Operation(send, read)


def read_marks(schema: Schema, batch_id: str) -> Operation[Marks]:
    """Return whether a batch is still being submitted, and whether it was cancelled.

    A batch that is looked at is kept longer, because its jobs are.
    """
    key = schema.keys.job(batch_id)

    def send(pipe: Any) -> None:
        pipe.time()
        pipe.hmget(key, "queued_at", "cancelled_at", "alive_at", "submitted_at", "counts")
        pipe.expire(key, schema.state_ttl_s)

    def read(replies: list[Any]) -> Marks:
        (seconds, _), (queued_at, cancelled_at, alive_at, submitted_at, counts), _ = replies
        silent_s = seconds - float(alive_at or submitted_at or 0)
        return Marks(
            submitting=not queued_at and not cancelled_at and silent_s < SILENT_S,
            cancelled=bool(cancelled_at),
            counts=None if counts is None else COUNTS.validate_json(counts),
        )

    return Operation(send, read)


def keep_counts(schema: Schema, batch_id: str, counts: Counts) -> Operation[None]:
    """Keep the counts of a batch whose jobs will not change."""
    key, body = schema.keys.job(batch_id), COUNTS.dump_json(counts)
    return scripts.call("keep_counts", (key,), (body,), lambda _: None)


def count(
    schema: Schema, batch_id: str, names: Sequence[str], *, with_outcomes: bool = False
) -> Operation[Counts]:
    """Count the jobs of a batch whose ids end with `names`; `kept` needs their outcomes."""

    def read(replies: list[Any]) -> Counts:
        now, amounts, started_at, ended_at, attempts, kept, code = replies[0]
        states = (*(state.value for state in jobs.JobState), MISSING)
        return Counts(
            now=float(now),
            amounts=dict(zip(states, (Amount(*each) for each in amounts), strict=True)),
            started_at=float(started_at) if started_at else None,
            ended_at=float(ended_at) if ended_at else None,
            attempts=attempts,
            kept=kept,
            code=code.decode() or None,
        )

    asked = _asked(schema, batch_id, names, with_outcomes=with_outcomes)
    return scripts.call("count_batch", *asked, read)


def read_ended(schema: Schema, batch_id: str, names: Sequence[str]) -> Operation[list[ReadJob]]:
    """Return those of the jobs whose ids end with `names` that have ended or are missing."""
    return scripts.call("read_batch", *_asked(schema, batch_id, names, "ended"), _read_jobs)


def read_open(schema: Schema, batch_id: str, names: Sequence[str]) -> Operation[list[ReadJob]]:
    """Return those of the jobs whose ids end with `names` that are queued or running."""
    return scripts.call("read_batch", *_asked(schema, batch_id, names, "open"), _read_jobs)


def _read_jobs(replies: list[Any]) -> list[ReadJob]:
    values = iter(replies[0])
    return [
        ReadJob(place - 1, state.decode(), float(ended_at), attempts, bool(is_split))
        for place, state, ended_at, attempts, is_split in zip(*[values] * 5, strict=True)
    ]


def _asked(
    schema: Schema, batch_id: str, names: Sequence[str], *more: str, with_outcomes: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys and the arguments of a script that reads these jobs."""
    keys = schema.keys
    outcome = keys.outcome(f"{batch_id}.") if with_outcomes else ""
    return (keys.job(batch_id),), (keys.job(f"{batch_id}."), outcome, " ".join(names), *more)


def list_ids(schema: Schema, at_most: int) -> Operation[list[str]]:
    """Return the ids of the batches that were submitted last, newest first."""

    def send(pipe: Any) -> None:
        pipe.zrevrange(schema.keys.batches, 0, at_most - 1)

    return Operation(send, lambda replies: [each.decode() for each in replies[0]])


def remove(schema: Schema, batch_id: str) -> Operation[None]:
    """Remove the record of a batch, but not its jobs."""
    keys = schema.keys
    return scripts.call(
        "remove_batch", (keys.job(batch_id), keys.batches), (batch_id,), lambda _: None
    )
