"""Find the jobs whose messages are lost, in bounded time however long the queue is.

Each list of the queue is first in, first out. So if a job was sent before the next messages in the
list, its message has been taken, and a worker must hold it unless it is lost. All other queued jobs
are still waiting behind the next messages, and need no check. A message of a bulk job may have
started another one: see `lost_turns`. The jobs to check are split into parts over several sweeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from contract import names
from contract.jobs import JobState
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from worker.jobs import job_snapshots, lost_turns
from worker.jobs.held_messages import held_job_ids, job_id_in
from worker.jobs.job_snapshots import JobSnapshot, number

#: Maximum jobs to check in one sweep per kind: running, or queued with one priority step.
AT_ONCE = 1_000
#: Number of next messages to read from a list. The newest may be copies of others.
NEXT_MESSAGES = 50
#: How long to keep the sweeper's positions.
POSITIONS_TTL_S = 3_600


@dataclass(frozen=True)
class QueueHead:
    """The next messages of one list of the queue."""

    ids: frozenset[str]
    #: The number of entries in the list.
    length: int
    #: How many of them are messages, as far as is known from the next ones.
    messages: int
    #: When the oldest of them was sent, or None if unknown. All messages sent before were taken.
    sent_at: float | None = None

    @property
    def whole(self) -> bool:
        """Return whether the list has no other entries."""
        return self.length <= NEXT_MESSAGES


@dataclass(frozen=True)
class LostJobs:
    """The lost jobs, and the positions where the next sweep continues."""

    jobs: list[JobSnapshot]
    positions: dict[str, float]


def find(store: JobStore, resend_after_s: float) -> LostJobs:
    """Find jobs that no worker has had for `resend_after_s`. Raises `RedisUnavailable`."""
    schema = store.schema
    now, positions, queue = store.execute(_read_queue(schema))
    upcoming = {job_id for each in queue.values() for job_id in each.ids}
    known = {each.job_id: each for each in job_snapshots.fetch(store, upcoming)}
    queue = {step: _with_send_time(step, each, known) for step, each in queue.items()}
    listed = store.execute(_jobs_to_check(schema, positions, queue))
    jobs = job_snapshots.fetch(
        store, dict.fromkeys(job_id for ids in listed.values() for job_id, _ in ids)
    )
    if gone := [each.job_id for each in jobs if each.state is None]:
        store.execute(_remove_expired(schema, gone))
    suspects = [each for each in jobs if _is_suspect(each, queue[each.step], now, resend_after_s)]
    running = [each for each in suspects if each.state is JobState.RUNNING]
    queued = [each for each in suspects if each.state is JobState.QUEUED]
    held = held_job_ids(store, now, resend_after_s) if queued else set()
    missed = [each for each in queued if held is not None and each.job_id not in held]
    # Only its own message starts a job that was never sent.
    own = [each for each in missed if not each.waits or each.sent_at is None]
    sent = [each for each in missed if each.waits and each.sent_at is not None]
    lengths = {
        step: each.messages + sum(job.waits and job.step == step for job in own)
        for step, each in queue.items()
    }
    return LostJobs(
        [*running, *own, *lost_turns.find(store, sent, lengths)],
        {kind: ids[-1][1] for kind, ids in listed.items() if len(ids) == AT_ONCE},
    )


def save_positions(schema: Schema, positions: dict[str, float]) -> Operation[None]:
    """Store where the next sweep continues; kinds without a position start from the beginning."""
    key = schema.keys.sweeper_places

    def send(pipe: Any) -> None:
        pipe.delete(key)
        if positions:
            pipe.hset(key, mapping={kind: repr(score) for kind, score in positions.items()})
            pipe.expire(key, POSITIONS_TTL_S)

    return Operation(send, lambda _: None)


def _is_suspect(job: JobSnapshot, upcoming: QueueHead, now: float, resend_after_s: float) -> bool:
    """Return whether the job is lost, unless a worker holds its message."""
    last_sign = max(job.sent_at or 0.0, job.submitted_at)
    # The server's clock may have been set back.
    if job.state is None or abs(now - last_sign) < resend_after_s:
        return False
    if job.state is JobState.RUNNING:
        return not job.leased
    if job.state is not JobState.QUEUED or job.job_id in upcoming.ids:
        return False
    if upcoming.whole or job.sent_at is None:
        return True
    return upcoming.sent_at is not None and job.sent_at < upcoming.sent_at


def _read_queue(schema: Schema) -> Operation[tuple[float, dict[str, float], dict[int, QueueHead]]]:
    """Return the server's time, the sweeper's positions and the next messages, read atomically."""
    keys = schema.keys

    def send(pipe: Any) -> None:
        pipe.time()
        pipe.hgetall(keys.sweeper_places)
        for name in keys.queue_lists:
            pipe.llen(name)
            pipe.lrange(name, -NEXT_MESSAGES, -1)

    def read(replies: list[Any]) -> tuple[float, dict[str, float], dict[int, QueueHead]]:
        (seconds, micros), positions, *lists = replies
        queue = {
            step: _head(raw, length)
            for step, length, raw in zip(names.PRIORITY_STEPS, lists[::2], lists[1::2], strict=True)
        }
        found = {kind.decode(): number(score) or 0.0 for kind, score in positions.items()}
        return seconds + micros / 1e6, found, queue

    return Operation(send, read)


def _head(entries: Sequence[bytes], length: int) -> QueueHead:
    messages = [each for each in entries if job_id_in(each) and b"delivery_tag" in each]
    malformed = len(entries) - len(messages)
    return QueueHead(frozenset(map(job_id_in, messages)), length, length - malformed)


def _with_send_time(step: int, upcoming: QueueHead, known: dict[str, JobSnapshot]) -> QueueHead:
    """Return `upcoming` with the time when its oldest queued job was sent."""
    jobs = (known[job_id] for job_id in upcoming.ids)
    times = [
        each.sent_at
        for each in jobs
        if each.state is JobState.QUEUED and each.step == step and each.sent_at is not None
    ]
    return replace(upcoming, sent_at=min(times, default=None))


def _jobs_to_check(
    schema: Schema, positions: dict[str, float], queue: dict[int, QueueHead]
) -> Operation[dict[str, list[tuple[str, float]]]]:
    """Return ids and scores of the next jobs of each kind to check, after the last position."""
    keys = schema.keys
    kinds: list[tuple[str, str, float, float]] = [("running", keys.running, 0.0, names.STEP_SPAN_S)]
    for step, upcoming in queue.items():
        first = float(step * names.STEP_SPAN_S)
        last = names.STEP_SPAN_S if upcoming.whole else upcoming.sent_at or names.STEP_SPAN_S
        kinds.append((f"queued {step}", keys.queued, first, first + last))

    def send(pipe: Any) -> None:
        for kind, key, first, last in kinds:
            start = max(first, positions.get(kind, first))
            pipe.zrange(
                key,
                repr(start),
                f"({last!r}",
                byscore=True,
                offset=0,
                num=AT_ONCE,
                withscores=True,
            )

    def read(replies: list[Any]) -> dict[str, list[tuple[str, float]]]:
        return {
            kind: [(job_id.decode(errors="replace"), score) for job_id, score in found]
            for (kind, *_), found in zip(kinds, replies, strict=True)
        }

    return Operation(send, read)


def _remove_expired(schema: Schema, ids: Sequence[str]) -> Operation[None]:
    """Remove jobs with expired records from the indexes of queued and running jobs."""
    keys = (schema.keys.queued, schema.keys.running)
    return Operation(lambda pipe: [pipe.zrem(key, *ids) for key in keys], lambda _: None)
