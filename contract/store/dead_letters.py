"""Operations on dead letters: failed jobs whose payload is kept.

The payload is kept if the job may succeed with another model, more memory or a repaired worker: see
`RerankError.dead_letter`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contract import jobs
from contract.columns import JobColumns
from contract.errors import JobNotFound
from contract.store import encoding, scripts, submissions
from contract.store.encoding import compress_columns
from contract.store.operation import Operation, Schema
from contract.store.submissions import overloaded


@dataclass(frozen=True)
class Page:
    """Some ids of dead letters, newest first, and the position of the next page."""

    ids: tuple[str, ...] = ()
    #: When the last job on this page failed, in seconds since the epoch.
    died_at: float = math.inf
    #: The ids listed so far of jobs that failed at exactly that time.
    listed_at_that_time: frozenset[str] = frozenset()


def page(schema: Schema, before: Page, at_most: int) -> Operation[Page]:
    """Return the page after `before`, with up to `at_most` ids; without ids at the end.

    Dead letters that are added or removed between two pages neither hide nor repeat others.
    """

    def send(pipe: Any) -> None:
        pipe.zrevrangebyscore(
            schema.keys.dead,
            before.died_at,
            "-inf",
            0,
            at_most + len(before.listed_at_that_time),
            withscores=True,
        )

    def read(replies: list[Any]) -> Page:
        found = [(name.decode(), died_at) for name, died_at in replies[0]]
        new = [each for each in found if each[0] not in before.listed_at_that_time][:at_most]
        if not new:
            return Page((), before.died_at, before.listed_at_that_time)
        last = new[-1][1]
        same_time = {name for name, died_at in new if died_at == last}
        if last == before.died_at:
            same_time |= before.listed_at_that_time
        return Page(tuple(name for name, _ in new), last, frozenset(same_time))

    return Operation(send, read)


def count(schema: Schema) -> Operation[int]:
    """Return the number of dead letters."""
    return scripts.call(
        "count_dead_letters",
        (schema.keys.dead,),
        (schema.state_ttl_s,),
        lambda replies: int(replies[0]),
    )


def not_found(job_id: str) -> JobNotFound:
    """Return the error for a job that is not a dead letter."""
    return JobNotFound(
        f"job {job_id} is not a dead letter; run `rerankq dead list` to see all dead letters"
    )


def fetch(schema: Schema, job_ids: Sequence[str]) -> Operation[list[jobs.DeadLetter]]:
    """Return the dead letters among `job_ids`; see `DeadLetter.readable`."""
    keys = schema.keys
    pairs = [(keys.job(job_id), keys.payload(job_id)) for job_id in job_ids]

    def read(replies: list[Any]) -> list[jobs.DeadLetter]:
        return [
            _letter(job_id, float(died_at), reason.decode(), fields, bool(kept))
            for job_id, (died_at, reason, fields, kept) in zip(job_ids, replies[0], strict=True)
            if died_at is not None and (reason or b"message" in fields[::2])
        ]

    return scripts.call(
        "fetch_dead_letters", (keys.dead, *(key for pair in pairs for key in pair)), job_ids, read
    )


def _letter(
    job_id: str, died_at: float, reason: str, raw: list[bytes], payload_kept: bool
) -> jobs.DeadLetter:
    try:
        if reason:
            raise ValueError(reason)
        fields = dict(zip(*[(each.decode() for each in raw)] * 2, strict=True))
        return jobs.DeadLetter(
            job_id=job_id,
            code=fields["code"],
            message=fields["message"],
            attempts=int(fields.get("attempts", 0)),
            deaths=int(fields.get("deaths", 0)),
            requests=int(fields.get("requests", 0)),
            pairs=int(fields.get("pairs", 0)),
            submitted_at=float(fields.get("submitted_at", 0)),
            ended_at=float(fields["ended_at"]),
            priority=int(fields.get("priority", 0)),
            payload_kept=payload_kept,
        )
    except (ValueError, KeyError) as error:
        return jobs.DeadLetter(
            job_id=job_id,
            code=jobs.UNREADABLE,
            message=f"cannot read its record ({error}); remove it with `rerankq dead drop`",
            attempts=0,
            deaths=0,
            requests=0,
            pairs=0,
            submitted_at=died_at,
            ended_at=died_at,
            priority=0,
            payload_kept=payload_kept,
        )


def load_job(schema: Schema, job_id: str) -> Operation[jobs.Job]:
    """Return the job of a dead letter.

    Raises `JobNotFound`, `PayloadMissing` or `PayloadInvalid`.
    """

    def send(pipe: Any) -> None:
        pipe.zscore(schema.keys.dead, job_id)
        pipe.eval(scripts.source("read_payload"), 1, schema.keys.payload(job_id))

    def read(replies: list[Any]) -> jobs.Job:
        died_at, body = replies
        if died_at is None:
            raise not_found(job_id)
        return encoding.decode_job(schema.settings, job_id, body).job()

    return Operation(send, read)


def requeue(schema: Schema, job: jobs.Job) -> Operation[bool]:
    """Turn a dead letter into a new job; return False if it is no longer a dead letter.

    Its outcome is removed. Raises `LimitExceeded`, or `Overloaded` when the reply is read; the job
    is then still a dead letter.
    """
    body = encoding.encode_job(schema.settings, JobColumns.of(job))
    keys = schema.keys

    def read(replies: list[Any]) -> bool:
        requeued, refused, amount = replies[0]
        if refused:
            raise overloaded(schema.settings, refused.decode(), amount)
        return bool(requeued)

    return scripts.call(
        "requeue_dead_letter",
        (
            keys.job(job.id),
            keys.outcome(job.id),
            keys.payload(job.id),
            keys.queued,
            keys.totals,
            keys.dead,
            keys.counters,
            *keys.queue_lists,
        ),
        (
            job.id,
            submissions.fingerprint(body),
            compress_columns(body, passages=job.passages is not None),
            schema.settings.payload_ttl_s,
            schema.state_ttl_s,
            schema.settings.max_queue_length,
            schema.settings.max_redis_memory_percent,
            keys.turns,
            submissions.DEFAULT_GROUP,
        ),
        read,
    )


def drop(schema: Schema, job_id: str) -> Operation[bool]:
    """Drop a dead letter and its payload; return False if there is none. The job stays failed."""
    keys = schema.keys
    return scripts.call(
        "drop_dead_letter",
        (keys.job(job_id), keys.payload(job_id), keys.dead),
        (job_id,),
        lambda replies: bool(replies[0]),
    )
