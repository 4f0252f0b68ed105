"""Operations that accept jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import jobs, names
from contract.columns import JobColumns
from contract.errors import JobConflict, Overloaded, RerankError
from contract.printable import counted
from contract.settings import Settings
from contract.store import encoding, scripts
from contract.store.encoding import compress_columns
from contract.store.operation import Operation, Schema
from contract.store.replication import replicated

#: The digest of a job's columns begins with this; an earlier one, of a record's JSON, does not.
COLUMNS_DIGEST = "2:"
#: The group of jobs that were submitted without one.
DEFAULT_GROUP = "none"


@dataclass(frozen=True)
class Submission:
    """The stored state of a job id after a submission."""

    #: Whether its message is known to be, or to have been, on the queue.
    sent: bool
    #: How the job is split, if it is.
    split: jobs.SplitJob | None = None


@dataclass(frozen=True)
class EncodedJob:
    """A job as it is stored."""

    columns: JobColumns
    digest: str
    payload: bytes

    @classmethod
    def of(cls, settings: Settings, job: jobs.Job | JobColumns) -> EncodedJob:
        """Encode a job. Raises `LimitExceeded` if it has too many bytes."""
        columns = job if isinstance(job, JobColumns) else JobColumns.of(job)
        body = encoding.encode_job(settings, columns)
        payload = compress_columns(body, passages=columns.passages is not None)
        return cls(columns, fingerprint(body), payload)

    @property
    def id(self) -> str:
        return self.columns.id


@dataclass(frozen=True)
class Submissions:
    """The stored states of the first jobs of a submission, and why the next one is refused."""

    stored: list[Submission]
    refusal: RerankError | None = None


def accept(
    schema: Schema,
    job: jobs.Job | JobColumns,
    priority: int = names.PRIORITY_BULK,
    group: str | None = None,
    trace: Mapping[str, str] | None = None,
) -> Operation[Submission]:
    """Store a job, unless it is stored already.

    A bulk job takes its turn in its group, which is that of the settings by default. `trace` is
    kept, because the message of another job may start this one.

    A job that has ended and whose outcome has expired is stored as a new job. Raises
    `LimitExceeded` if the job has too many bytes. When read, raises `JobConflict` if the id belongs
    to a job with other contents, or `Overloaded` if the queue or Redis' memory is nearly full.
    """
    accepted = accept_all(schema, [EncodedJob.of(schema.settings, job)], priority, group, trace)

    def read(replies: list[Any]) -> Submission:
        found = accepted.read(replies)
        if found.refusal is not None:
            raise found.refusal
        return found.stored[0]

    return Operation(accepted.send, read, accepted.in_sequence)


def accept_all(
    schema: Schema,
    encoded: Sequence[EncodedJob],
    priority: int,
    group: str | None = None,
    trace: Mapping[str, str] | None = None,
) -> Operation[Submissions]:
    """Store jobs in order, as `accept` does, up to the first one that is refused.

    Fewer may be stored without a refusal: then submit the others again.
    """
    keys, settings = schema.keys, schema.settings

    def read(replies: list[Any]) -> Submissions:
        stored: list[Submission] = []
        for each, (on_record, sent, refused, amount, split) in zip(
            encoded, replies[0], strict=False
        ):
            if refused:
                return Submissions(stored, overloaded(settings, refused.decode(), amount))
            try:
                if not _is_earlier_digest(on_record, each.columns):
                    check_same(each.id, on_record, each.digest)
            except JobConflict as error:
                return Submissions(stored, error)
            stored.append(Submission(sent=bool(sent), split=_read_split(split)))
        return Submissions(stored)

    accepted = scripts.call(
        "accept",
        (
            keys.queued,
            keys.counters,
            keys.dead,
            *(
                key
                for each in encoded
                for key in (keys.job(each.id), keys.payload(each.id), keys.outcome(each.id))
            ),
            *keys.queue_lists,
        ),
        (
            priority,
            settings.payload_ttl_s,
            schema.state_ttl_s,
            settings.max_queue_length,
            settings.max_redis_memory_percent,
            keys.turns,
            group or settings.group or DEFAULT_GROUP,
            json.dumps(dict(trace)) if trace else "",
            *(
                argument
                for each in encoded
                for argument in (
                    each.id,
                    each.digest,
                    each.payload,
                    each.columns.pairs,
                    len(each.columns.queries),
                )
            ),
        ),
        read,
    )
    return replicated(schema, accepted)


def accept_split(
    schema: Schema, job: jobs.Job, split: jobs.SplitJob
) -> Operation[jobs.SplitJob | None]:
    """Store that a job is split into parts; return how it is split.

    If the job was stored before, return how it was split then, or None if it was not split. Raises
    `JobConflict` when read, as `accept` does.
    """
    ours = digest(job.model_dump_json().encode())

    def read(replies: list[Any]) -> jobs.SplitJob | None:
        on_record, recorded_split = replies[0]
        check_same(split.job_id, on_record, ours)
        return _read_split(recorded_split)

    stored = scripts.call(
        "accept_split",
        (schema.keys.job(split.job_id),),
        (ours, split.model_dump_json(exclude_defaults=True), schema.state_ttl_s),
        read,
    )
    return replicated(schema, stored)


def mark_sent(schema: Schema, *job_ids: str) -> Operation[None]:
    """Record that the messages of jobs are on the queue."""
    return scripts.call("mark_sent", tuple(map(schema.keys.job, job_ids)), (), lambda _: None)


def overloaded(settings: Settings, what: str, amount: int) -> Overloaded:
    """Return the error for the reason that the scripts' `overload` returns."""
    if what == "queue":
        limit = f"{settings.max_queue_length:,} (RERANKQ_MAX_QUEUE_LENGTH)"
        full = f"the queue has {counted(amount, 'message')}, and the limit is {limit}"
    else:
        percent = f"{settings.max_redis_memory_percent}% (RERANKQ_MAX_REDIS_MEMORY_PERCENT)"
        full = f"Redis uses {amount}% of its memory, and the limit is {percent}"
    return Overloaded(f"the service is not accepting jobs: {full}; try again later")


def check_same(job_id: str, on_record: bytes, digest: str) -> None:
    """Raise `JobConflict` if the digests of a stored job or batch and of a new one differ."""
    if on_record.decode() != digest:
        raise JobConflict(
            f"job id {job_id} belongs to a job with different contents; choose another id"
        )


def _is_earlier_digest(on_record: bytes, columns: JobColumns) -> bool:
    """Return whether a digest of the earlier format, if it is one, belongs to the same job."""
    digest_ = on_record.decode()
    if digest_.startswith(COLUMNS_DIGEST):
        return False
    return digest_ == digest(columns.job().model_dump_json().encode())


def _read_split(split: bytes | None) -> jobs.SplitJob | None:
    return None if split is None else jobs.SplitJob.model_validate_json(split)


def fingerprint(body: bytes) -> str:
    """Return a hash by which to compare the columns of two jobs."""
    return f"{COLUMNS_DIGEST}{digest(body)}"


def digest(body: bytes) -> str:
    """Return a hash by which to compare the JSON of two jobs."""
    return hashlib.sha256(body).hexdigest()
