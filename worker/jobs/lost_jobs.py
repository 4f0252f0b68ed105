"""Finds the jobs whose messages are lost, however many wait, in bounded time.

Each list of the queue is first in, first out: of the jobs that no worker has begun, those that were
sent before the next messages have been taken already, and a worker must hold their messages. All
others are explained by their place behind the next messages and are not looked at. What is left is
looked at in pieces, from sweep to sweep.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from contract import names
from contract.jobs import JobState
from contract.store import scripts
from contract.store.blocking import JobStore
from contract.store.operation import Operation
from contract.store.schema import Schema

logger = logging.getLogger(__name__)

#: Jobs of a kind (running, or queued with one priority step) that are looked at in one sweep.
AT_ONCE = 1_000
#: Next messages of a list that are read: those of the last moments may be copies of others.
NEXT_MESSAGES = 50
#: Jobs and messages that Redis is asked for in one command.
PIECE = 250
#: Messages in workers' hands beyond which nobody can tell which are lost.
MAX_HELD = 20_000
#: How long the sweeper's positions are remembered.
POSITIONS_TTL_S = 3_600


@dataclass(frozen=True)
class JobSnapshot:
    """What tells of a job whether anybody will do it."""

    job_id: str
    state: JobState | None
    leased: bool
    #: Seconds since the epoch; None if its message was never sent, as far as is known.
    sent_at: float | None
    submitted_at: float
    priority: int
    requests: int
    pairs: int

    @property
    def step(self) -> int:
        return names.priority_step(min(9, max(0, self.priority)))


@dataclass(frozen=True)
class QueueHead:
    """The next messages of one of the queue's lists."""

    ids: frozenset[str]
    #: Whether there are no others.
    whole: bool
    #: When the oldest of them was sent: what was sent before has been taken. None if unknown.
    sent_at: float | None = None


@dataclass(frozen=True)
class LostJobs:
    """The lost jobs, and where the next sweep is to go on."""

    jobs: list[JobSnapshot]
    positions: dict[str, float]


def find(store: JobStore, resend_after_s: float) -> LostJobs:
    """Look for jobs that nobody has for so long. Raises `RedisUnavailable`."""
    schema = store.schema
    now, positions, queue = store.execute(_read_queue(schema))
    upcoming = {job_id for each in queue.values() for job_id in each.ids}
    known = {each.job_id: each for each in _snapshots(store, upcoming)}
    queue = {step: _with_send_time(step, each, known) for step, each in queue.items()}
    listed = store.execute(_jobs_to_check(schema, positions, queue))
    jobs = _snapshots(store, dict.fromkeys(job_id for ids in listed.values() for job_id, _ in ids))
    if gone := [each.job_id for each in jobs if each.state is None]:
        store.execute(_remove_expired(schema, gone))
    suspects = [each for each in jobs if _is_suspect(each, queue[each.step], now, resend_after_s)]
    held = (
        _held_job_ids(store, now, resend_after_s)
        if any(each.state is JobState.QUEUED for each in suspects)
        else set()
    )
    return LostJobs(
        [
            each
            for each in suspects
            if each.state is JobState.RUNNING or (held is not None and each.job_id not in held)
        ],
        {kind: ids[-1][1] for kind, ids in listed.items() if len(ids) == AT_ONCE},
    )


def save_positions(schema: Schema, positions: dict[str, float]) -> Operation[None]:
    """Have the next sweep go on at these positions, and begin anew with the other kinds."""
    key = schema.keys.sweeper_places

    def send(pipe: Any) -> None:
        pipe.delete(key)
        if positions:
            pipe.hset(key, mapping={kind: repr(score) for kind, score in positions.items()})
            pipe.expire(key, POSITIONS_TTL_S)

    return Operation(send, lambda _: None)


def _is_suspect(job: JobSnapshot, upcoming: QueueHead, now: float, resend_after_s: float) -> bool:
    """Whether nobody has the job, unless a worker holds its message."""
    last_sign = max(job.sent_at or 0.0, job.submitted_at)
    # The server's clock may have been put back.
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
    """The server's time, the sweeper's positions, and the next messages, at one moment."""
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
            step: QueueHead(frozenset(map(_id_in, raw)) - {""}, length <= NEXT_MESSAGES)
            for step, length, raw in zip(names.PRIORITY_STEPS, lists[::2], lists[1::2], strict=True)
        }
        found = {kind.decode(): _number(score) or 0.0 for kind, score in positions.items()}
        return seconds + micros / 1e6, found, queue

    return Operation(send, read)


def _with_send_time(step: int, upcoming: QueueHead, known: dict[str, JobSnapshot]) -> QueueHead:
    """With the time at which the oldest was sent that has not been begun."""
    jobs = (known[job_id] for job_id in upcoming.ids)
    times = [
        each.sent_at
        for each in jobs
        if each.state is JobState.QUEUED and each.step == step and each.sent_at is not None
    ]
    return QueueHead(upcoming.ids, upcoming.whole, min(times, default=None))


def _jobs_to_check(
    schema: Schema, positions: dict[str, float], queue: dict[int, QueueHead]
) -> Operation[dict[str, list[tuple[str, float]]]]:
    """Ids and scores of the jobs of each kind to look at, from the place on where it was left."""
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
                *(key, repr(start), f"({last!r}"),
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


def _snapshots(store: JobStore, ids: Iterable[str]) -> list[JobSnapshot]:
    schema = store.schema
    found: list[JobSnapshot] = []
    for piece in _pieces(ids):
        keys = [key for each in piece for key in (schema.keys.job(each), schema.keys.lease(each))]
        found += store.execute(scripts.call("read_job_states", keys, (), partial(_read, piece)))
    return found


def _pieces(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = list(ids)
    for start in range(0, len(rest), PIECE):
        yield rest[start : start + PIECE]


def _read(ids: Sequence[str], replies: list[Any]) -> list[JobSnapshot]:
    return [
        _read_snapshot(job_id, values or [None] * 6, bool(leased))
        for job_id, (leased, values) in zip(ids, replies[0], strict=True)
    ]


def _read_snapshot(job_id: str, values: list[bytes | None], leased: bool) -> JobSnapshot:
    state, sent_at, submitted_at, priority, requests, pairs = values
    return JobSnapshot(
        job_id=job_id,
        state=_state(state),
        leased=leased,
        sent_at=_number(sent_at),
        submitted_at=_number(submitted_at) or 0.0,
        priority=int(_number(priority) or 0),
        requests=int(_number(requests) or 0),
        pairs=int(_number(pairs) or 0),
    )


def _state(raw: bytes | None) -> JobState | None:
    found = (raw or b"").decode(errors="replace")
    return JobState(found) if found in list(JobState) else None


def _number(raw: bytes | None) -> float | None:
    try:
        return float(raw) if raw else None
    except ValueError:
        return None


def _held_job_ids(store: JobStore, now: float, resend_after_s: float) -> set[str] | None:
    """Ids of the jobs whose messages workers have taken not long ago; None if they are too many.

    A worker that was killed seems to hold its messages until the visibility timeout.
    """
    keys = store.schema.keys
    tags: dict[str, str] = {}
    for seen, (tag, raw) in enumerate(_scan(store)):
        if seen == MAX_HELD:
            logger.warning("Workers hold more than %s messages: lost ones are not told", MAX_HELD)
            return None
        tags[tag] = _id_in(raw, 0)
    held = set()
    for piece in _pieces(tags):
        taken = store.execute(_taken(keys, piece))
        for tag, taken_at in zip(piece, taken, strict=True):
            if taken_at is not None and abs(now - taken_at) < resend_after_s:
                held.add(tags[tag])
    return held


def _taken(keys: names.Keys, tags: Sequence[str]) -> Operation[list[float | None]]:
    """When workers have taken the messages of these delivery tags."""

    def send(pipe: Any) -> None:
        for tag in tags:
            pipe.zscore(keys.unacked_index, tag)

    return Operation(send, lambda replies: replies)


def _scan(store: JobStore) -> Iterator[tuple[str, bytes]]:
    """Delivery tags and messages that workers hold, piece by piece."""
    cursor = None
    while cursor != 0:
        cursor, found = store.execute(_page(store.schema.keys, cursor or 0))
        yield from ((tag.decode(errors="replace"), raw) for tag, raw in found.items())


def _page(keys: names.Keys, cursor: int) -> Operation[tuple[int, dict[bytes, bytes]]]:
    return Operation(
        lambda pipe: pipe.hscan(keys.unacked, cursor, count=PIECE),
        lambda replies: replies[0],
    )


def _id_in(raw: bytes, *place: int) -> str:
    """The job's id in a message of kombu's, or in a list at this place; empty if there is none."""
    try:
        message = json.loads(raw)
        for each in place:
            message = message[each]
        return str(message["headers"]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _remove_expired(schema: Schema, ids: Sequence[str]) -> Operation[None]:
    """Jobs whose records have expired neither wait nor run."""
    keys = (schema.keys.queued, schema.keys.running)
    return Operation(lambda pipe: [pipe.zrem(key, *ids) for key in keys], lambda _: None)
