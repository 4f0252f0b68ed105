"""What is asked of Redis, and how the replies are read: both sides of every record stand here.

An `Exchange` is described once and carried by `contract.store.connection`, blocking or with
asyncio.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from contract import jobs, limits, metrics, names
from contract.errors import (
    JobConflict,
    JobNotFound,
    JobSplit,
    LimitExceeded,
    Overloaded,
    PayloadInvalid,
    PayloadMissing,
    ResultExpired,
)
from contract.settings import Settings
from contract.store import scripts

T = TypeVar("T")

#: A result holds the ids and metadata of its job, and about a hundred bytes for each document.
OUTCOME_ROOM_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Exchange(Generic[T]):
    """One round trip: the commands to put into a pipeline, and how to read all their replies."""

    send: Callable[[Any], object]
    read: Callable[[list[Any]], T]


@dataclass(frozen=True)
class Accepted:
    """What is on record for a job id after it was offered."""

    #: Whether its message is known to be on the queue (or to have been).
    sent: bool
    #: How it is split, if several others stand for it.
    split: jobs.Split | None = None


class Records:
    """What is asked of Redis, and how the replies are read. Holds no connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = names.Keys(settings.namespace)

    @property
    def state_ttl_s(self) -> int:
        """How long a job's state is remembered: never less than its payload or its outcome."""
        settings = self.settings
        return max(settings.job_ttl_s, settings.payload_ttl_s, settings.result_ttl_s)

    def ping(self) -> Exchange[None]:
        """Nothing but the round trip."""
        return Exchange(lambda pipe: pipe.ping(), lambda _: None)

    def accept(self, job: jobs.Job, priority: int = names.PRIORITY_BULK) -> Exchange[Accepted]:
        """Put a job on record, unless it is there already.

        One that has ended, and whose outcome is gone, is on record as a new job afterwards.
        Raises `LimitExceeded` if the job is too many bytes, and, when read, `JobConflict` if the
        id stands for other contents, or `Overloaded` if too much is waiting already.
        """
        body = self.encode(job)
        digest = digest_of(body)

        def read(replies: list[Any]) -> Accepted:
            on_record, sent, refused, amount, split = replies[0]
            if refused:
                raise self.overloaded(refused.decode(), amount)
            _check_same(job.id, on_record, digest)
            return Accepted(sent=bool(sent), split=_read_split(split))

        return self.script(
            scripts.ACCEPT,
            (
                self.keys.job(job.id),
                self.keys.payload(job.id),
                self.keys.queued,
                self.keys.counters,
                self.keys.outcome(job.id),
                self.keys.dead,
                *self.keys.queue_lists,
            ),
            (
                job.id,
                digest,
                compress(body),
                job.pairs,
                len(job.requests),
                priority,
                self.settings.payload_ttl_s,
                self.state_ttl_s,
                self.settings.max_queue_length,
                self.settings.max_redis_memory_percent,
            ),
            read,
        )

    def accept_split(self, job: jobs.Job, how: jobs.Split) -> Exchange[jobs.Split | None]:
        """Put on record that several others stand for a job; return how it is split.

        That is not as in `how` if it was on record, and None if it was as one job. Raises
        `JobConflict`, when read, as `accept`.
        """
        digest = digest_of(job.model_dump_json().encode())

        def read(replies: list[Any]) -> jobs.Split | None:
            on_record, split = replies[0]
            _check_same(job.id, on_record, digest)
            return _read_split(split)

        return self.script(
            scripts.ACCEPT_SPLIT,
            (self.keys.job(job.id),),
            (digest, how.model_dump_json(), self.state_ttl_s),
            read,
        )

    def encode(self, job: jobs.Job) -> bytes:
        """The job as it is stored, before compression. Raises `LimitExceeded`."""
        body = job.model_dump_json().encode()
        limit = self.settings.max_bytes_per_job
        if len(body) > limit:
            raise LimitExceeded(
                f"job {job.id} is {len(body):,} bytes, the limit is {limit:,}"
                " (RERANKQ_MAX_BYTES_PER_JOB): split it, or send shorter texts"
            )
        limits.check_values(job.id, body, self.settings)
        return body

    def overloaded(self, what: str, amount: int) -> Overloaded:
        """Return the error for what the scripts' `full` returns."""
        if what == "queue":
            limit = f"{self.settings.max_queue_length:,} (RERANKQ_MAX_QUEUE_LENGTH)"
            full = f"{amount:,} messages are on the queue, the limit is {limit}"
        else:
            percent = (
                f"{self.settings.max_redis_memory_percent} % (RERANKQ_MAX_REDIS_MEMORY_PERCENT)"
            )
            full = f"Redis uses {amount} % of its memory, the limit is {percent}"
        return Overloaded(f"no job is accepted just now: {full}. Try again later")

    def mark_sent(self, job_id: str) -> Exchange[None]:
        """Note that the job's message is on the queue."""
        return self.script(scripts.SENT, (self.keys.job(job_id),), (), lambda _: None)

    def job(self, job_id: str, payload: bytes | None) -> jobs.Job:
        """The job that `payload` holds.

        Raises `PayloadMissing`, `PayloadInvalid` or `LimitExceeded`.
        """
        if payload is None:
            raise PayloadMissing(
                f"job {job_id} has no payload: it waited longer than"
                f" {self.settings.payload_ttl_s} s (RERANKQ_PAYLOAD_TTL_S), or was removed"
            )
        try:
            body = decompress(payload, self.settings.max_bytes_per_job)
            limits.check_values(job_id, body, self.settings)
            job = jobs.Job.model_validate_json(body)
        except ValidationError as error:
            reason = jobs.describe(error)
            raise PayloadInvalid(f"job {job_id} does not validate: {reason}") from error
        except zlib.error as error:
            raise PayloadInvalid(f"job {job_id} is no compressed payload: {error}") from error
        if job.id != job_id:
            raise PayloadInvalid(f"the payload of job {job_id} is that of job {job.id}")
        return job

    def finish(
        self,
        outcome: jobs.Outcome,
        token: str = "",
        *,
        dead_letter: bool = False,
        counts: metrics.Counts | None = None,
    ) -> Exchange[bool]:
        """Record how a job ended and tell those who wait; False if it had ended before.

        With (the beginning of) a token, also if another attempt is under way. A dead letter keeps
        its payload. `counts` are counted too, beside what the outcome says.
        """
        job_id = outcome.job_id
        failure = outcome if isinstance(outcome, jobs.Failure) else None
        return self.script(
            scripts.FINISH,
            (
                self.keys.job(job_id),
                self.keys.outcome(job_id),
                self.keys.payload(job_id),
                self.keys.queued,
                self.keys.running,
                self.keys.totals,
                self.keys.lease(job_id),
                self.keys.dead,
                self.keys.counters,
            ),
            (
                job_id,
                compress(outcome.model_dump_json().encode()),
                jobs.JobState.after(outcome).value,
                failure.code if failure else "",
                self.keys.done,
                self.settings.result_ttl_s,
                self.state_ttl_s,
                token,
                failure.message if failure and dead_letter else "",
                *metrics.arguments({**metrics.of_outcome(outcome), **(counts or {})}),
            ),
            lambda replies: bool(replies[0]),
        )

    def outcomes(self, job_ids: Sequence[str]) -> Exchange[dict[str, jobs.Ended]]:
        """Return the outcomes of those of `job_ids` that have ended.

        In place of an outcome that is nowhere, cannot be read, or is that of several others, stands
        the error that says so.
        """
        limit_bytes = OUTCOME_ROOM_BYTES + 4 * self.settings.max_bytes_per_job

        def read(replies: list[Any]) -> dict[str, jobs.Ended]:
            found: dict[str, jobs.Ended] = {}
            for job_id, (body, state, split) in zip(job_ids, replies[0], strict=True):
                if body is not None:
                    found[job_id] = _read_outcome(job_id, body, limit_bytes)
                elif split is not None:
                    found[job_id] = _stands_for_others(jobs.Split.model_validate_json(split))
                elif state is None:
                    found[job_id] = _not_found(job_id)
                elif state.decode() not in _LIVE:
                    found[job_id] = _expired(job_id, state.decode())
            return found

        keys = [key for each in job_ids for key in (self.keys.outcome(each), self.keys.job(each))]
        return self.script(scripts.OUTCOMES, keys, (), read)

    def status(self, job_id: str) -> Exchange[jobs.JobStatus]:
        """Return the state of a job that none stand for. Raises `JobNotFound` when read."""
        found = self.find(job_id)

        def read(replies: list[Any]) -> jobs.JobStatus:
            status = found.read(replies)
            if isinstance(status, jobs.Split):
                raise _not_found(job_id)
            return status

        return Exchange(found.send, read)

    def find(self, job_id: str) -> Exchange[jobs.JobStatus | jobs.Split]:
        """Return the job's state, or which others stand for it. Raises `JobNotFound` when read."""

        def read(replies: list[Any]) -> jobs.JobStatus | jobs.Split:
            fields = {key.decode(): value.decode() for key, value in replies[0].items()}
            if "split" in fields:
                return jobs.Split.model_validate_json(fields["split"])
            if "state" not in fields:
                raise _not_found(job_id)
            return jobs.JobStatus(
                job_id=job_id,
                state=jobs.JobState(fields["state"]),
                pairs=int(fields.get("pairs", 0)),
                requests=int(fields.get("requests", 0)),
                attempts=int(fields.get("attempts", 0)),
                submitted_at=float(fields.get("submitted_at", fields.get("started_at", 0))),
                started_at=float(fields["started_at"]) if "started_at" in fields else None,
                ended_at=float(fields["ended_at"]) if "ended_at" in fields else None,
                code=fields.get("code") or None,
                outcome_kept=bool(replies[1]),
            )

        def send(pipe: Any) -> None:
            pipe.hgetall(self.keys.job(job_id))
            pipe.exists(self.keys.outcome(job_id))

        return Exchange(send, read)

    def forget(self, job_id: str) -> Exchange[jobs.Split | None]:
        """Remove the outcome of a job whose caller has it safe; return which others stood for it.

        Its small state stays a while longer, so that a message delivered twice finds it ended. A
        dead letter is removed as well: whoever has the outcome knows of the failure.
        """

        return self.script(
            scripts.FORGET,
            (
                self.keys.job(job_id),
                self.keys.outcome(job_id),
                self.keys.payload(job_id),
                self.keys.dead,
            ),
            (job_id, 2 * self.settings.visibility_timeout_s),
            lambda replies: _read_split(replies[0]),
        )

    def script(
        self,
        source: str,
        keys: Sequence[str],
        arguments: Sequence[str | bytes | int],
        read: Callable[[list[Any]], T],
    ) -> Exchange[T]:
        """Run one of `contract.store.scripts`."""
        return Exchange(lambda pipe: pipe.eval(source, len(keys), *keys, *arguments), read)


_LIVE = (jobs.JobState.QUEUED, jobs.JobState.RUNNING)


def _check_same(job_id: str, on_record: bytes, digest: str) -> None:
    if on_record.decode() != digest:
        raise JobConflict(
            f"job id {job_id} is taken by a job with other contents: choose another id"
        )


def _read_split(split: bytes | None) -> jobs.Split | None:
    return None if split is None else jobs.Split.model_validate_json(split)


def _stands_for_others(how: jobs.Split) -> JobSplit:
    error = JobSplit(f"job {how.job_id} stands for {', '.join(how.part_ids)}")
    error.split = how
    return error


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"no record of job {job_id}: never submitted here, or expired")


def _expired(job_id: str, state: str) -> ResultExpired:
    return ResultExpired(
        f"job {job_id} has ended ({state}), and its result has expired (RERANKQ_RESULT_TTL_S) or"
        " was forgotten: submit it again"
    )


def _read_outcome(job_id: str, packed: bytes, limit_bytes: int) -> jobs.Ended:
    try:
        # A newer worker may say more than we know of: a caller need not be upgraded before.
        return jobs.OUTCOME.validate_json(decompress(packed, limit_bytes), extra="ignore")
    except zlib.error as error:
        return PayloadInvalid(f"the outcome of job {job_id} cannot be unpacked: {error}")
    except ValidationError as error:
        return PayloadInvalid(f"the outcome of job {job_id}: {jobs.describe(error)}")


def digest_of(body: bytes) -> str:
    """Tells whether two jobs have the same contents."""
    return hashlib.sha256(body).hexdigest()


def compress(body: bytes) -> bytes:
    """Pack a record for Redis; level 1, because the worker's time is dearer than Redis' memory."""
    return zlib.compress(body, level=1)


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Unpack a record of at most `limit_bytes`; raises `zlib.error` if it is none, or larger."""
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(packed, limit_bytes + 1)
    if len(body) > limit_bytes:
        raise zlib.error(f"more than {limit_bytes:,} bytes")
    if not unpacker.eof:
        raise zlib.error("cut short")
    return body
