"""Operations that accept a job, and note that its message is on the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contract import jobs, names
from contract.errors import JobConflict, Overloaded
from contract.settings import Settings
from contract.store import payloads, scripts
from contract.store.compression import compress
from contract.store.operation import Operation
from contract.store.schema import Schema


@dataclass(frozen=True)
class Submission:
    """What is on record for a job id after it was submitted."""

    #: Whether its message is known to be on the queue (or to have been).
    sent: bool
    #: How it is split, if several others stand for it.
    split: jobs.SplitJob | None = None


def accept(
    schema: Schema, job: jobs.Job, priority: int = names.PRIORITY_BULK
) -> Operation[Submission]:
    """Put a job on record, unless it is there already.

    One that has ended, and whose outcome is gone, is on record as a new job afterwards. Raises
    `LimitExceeded` if the job is too many bytes, and, when read, `JobConflict` if the id stands for
    other contents, or `Overloaded` if too much is waiting already.
    """
    keys, settings = schema.keys, schema.settings
    body = payloads.encode(settings, job)
    digest = payloads.digest(body)

    def read(replies: list[Any]) -> Submission:
        on_record, sent, refused, amount, split = replies[0]
        if refused:
            raise overloaded(settings, refused.decode(), amount)
        _check_same(job.id, on_record, digest)
        return Submission(sent=bool(sent), split=_read_split(split))

    return scripts.call(
        "accept",
        (
            keys.job(job.id),
            keys.payload(job.id),
            keys.queued,
            keys.counters,
            keys.outcome(job.id),
            keys.dead,
            *keys.queue_lists,
        ),
        (
            job.id,
            digest,
            compress(body),
            job.pairs,
            len(job.requests),
            priority,
            settings.payload_ttl_s,
            schema.state_ttl_s,
            settings.max_queue_length,
            settings.max_redis_memory_percent,
        ),
        read,
    )


def accept_split(
    schema: Schema, job: jobs.Job, split: jobs.SplitJob
) -> Operation[jobs.SplitJob | None]:
    """Put on record that several others stand for a job; return how it is split.

    That is not as in `split` if it was on record, and None if it was as one job. Raises
    `JobConflict`, when read, as `accept`.
    """
    digest = payloads.digest(job.model_dump_json().encode())

    def read(replies: list[Any]) -> jobs.SplitJob | None:
        on_record, recorded_split = replies[0]
        _check_same(job.id, on_record, digest)
        return _read_split(recorded_split)

    return scripts.call(
        "accept_split",
        (schema.keys.job(job.id),),
        (digest, split.model_dump_json(), schema.state_ttl_s),
        read,
    )


def mark_sent(schema: Schema, job_id: str) -> Operation[None]:
    """Note that the job's message is on the queue."""
    return scripts.call("mark_sent", (schema.keys.job(job_id),), (), lambda _: None)


def overloaded(settings: Settings, what: str, amount: int) -> Overloaded:
    """Return the error for what the scripts' `full` returns."""
    if what == "queue":
        limit = f"{settings.max_queue_length:,} (RERANKQ_MAX_QUEUE_LENGTH)"
        full = f"{amount:,} messages are on the queue, the limit is {limit}"
    else:
        percent = f"{settings.max_redis_memory_percent} % (RERANKQ_MAX_REDIS_MEMORY_PERCENT)"
        full = f"Redis uses {amount} % of its memory, the limit is {percent}"
    return Overloaded(f"no job is accepted just now: {full}. Try again later")


def _check_same(job_id: str, on_record: bytes, digest: str) -> None:
    if on_record.decode() != digest:
        raise JobConflict(
            f"job id {job_id} is taken by a job with other contents: choose another id"
        )


def _read_split(split: bytes | None) -> jobs.SplitJob | None:
    return None if split is None else jobs.SplitJob.model_validate_json(split)
