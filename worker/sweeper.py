"""Looks for jobs that nobody will do, and sends their messages again.

Celery on Redis may lose a message: a worker that is killed between taking it from the queue and
noting that it holds it, a producer that is killed between putting the job on record and sending it.
And a job whose worker was killed as a whole would wait for the visibility timeout. Sending one time
too many is harmless: a job that has ended, or is leased, is not begun again.

One worker at a time looks, in its main process, for some milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from celery import bootsteps
from kombu.exceptions import OperationalError

from contract import names
from contract.errors import RedisUnavailable
from contract.jobs import JobState
from contract.records import Exchange, Records
from contract.store import JobStore
from worker import logbook
from worker.celery import app, settings
from worker.connection import MAIN_TIMEOUT_S, records, store
from worker.logbook import Event

logger = logging.getLogger(__name__)

#: Jobs looked at in one go, of those that wait the longest.
AT_ONCE = 1_000


@dataclass(frozen=True)
class Vitals:
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


@dataclass(frozen=True)
class Messages:
    """The messages that there are, as far as they tell which others there must be."""

    #: Of the next message on each of the queue's lists; None where there is none, empty where it is
    #: no message of ours.
    next_ids: dict[int, str | None]
    #: Of those that workers hold, with when they took them: seconds since the epoch, by their own
    #: clock. A worker that was killed seems to hold them until the visibility timeout.
    held: dict[str, float]


def sweep(store: JobStore, send: Any) -> list[str]:
    """Send the messages of lost jobs with `send(vitals)`; gives their ids.

    Raises `RedisUnavailable`.
    """
    records = store.records
    if not store.do(_take_turn(records)):
        return []
    now, messages, ids = store.do(_look(records))
    vitals = store.do(_vitals(records, ids))
    gone = [each.job_id for each in vitals if each.state is None]
    if gone:
        store.do(_strike_off(records, gone))
    heads = store.do(_vitals(records, [each for each in messages.next_ids.values() if each]))
    sent_at = {each.job_id: each.sent_at for each in heads}
    lost = [each for each in vitals if _is_lost(each, messages, sent_at, now)]
    for each in lost:
        send(each)
        store.do(records.mark_sent(each.job_id))
    return [each.job_id for each in lost]


def _is_lost(job: Vitals, messages: Messages, sent_at: dict[str, float | None], now: float) -> bool:
    last_sign = max(job.sent_at or 0.0, job.submitted_at)
    if job.state is None or now - last_sign < settings.resend_after_s:
        return False
    if job.state is JobState.RUNNING:
        return not job.leased
    if now - messages.held.get(job.job_id, 0.0) < settings.resend_after_s:
        return False
    if job.sent_at is None:
        return True
    head = messages.next_ids[names.priority_step(job.priority)]
    if head is None:
        return True
    # First in, first out: what was sent before the next message has been taken already.
    head_sent_at = sent_at.get(head)
    return head != job.job_id and head_sent_at is not None and job.sent_at < head_sent_at


def _take_turn(records: Records) -> Exchange[bool]:
    hold_ms = round(900 * settings.sweep_every_s)
    return Exchange(
        lambda pipe: pipe.set(records.keys.sweeper, os.getpid(), nx=True, px=hold_ms),
        lambda replies: bool(replies[0]),
    )


def _look(records: Records) -> Exchange[tuple[float, Messages, list[str]]]:
    """The server's time, the messages, and the ids of the jobs to look at, at one moment."""
    keys = records.keys

    def send(pipe: Any) -> None:
        pipe.time()
        pipe.zrange(keys.running, 0, AT_ONCE - 1)
        pipe.zrange(keys.queued, 0, AT_ONCE - 1)
        pipe.hgetall(keys.unacked)
        pipe.zrange(keys.unacked_index, 0, -1, withscores=True)
        for name in keys.queue_lists:
            pipe.lindex(name, -1)

    def read(replies: list[Any]) -> tuple[float, Messages, list[str]]:
        (seconds, micros), running, queued, held, since, *heads = replies
        ids = [None if raw is None else _id_in(raw) for raw in heads]
        next_ids = dict(zip(names.PRIORITY_STEPS, ids, strict=True))
        messages = Messages(
            next_ids, {_id_in(held[tag], 0): taken_at for tag, taken_at in since if tag in held}
        )
        return seconds + micros / 1e6, messages, [each.decode() for each in (*running, *queued)]

    return Exchange(send, read)


def _id_in(raw: bytes, *place: int) -> str:
    """The job's id in a message of kombu's, or in a list at this place; empty if there is none."""
    try:
        message = json.loads(raw)
        for each in place:
            message = message[each]
        return str(message["headers"]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _vitals(records: Records, ids: Sequence[str]) -> Exchange[list[Vitals]]:
    fields = ("state", "sent_at", "submitted_at", "priority", "requests", "pairs")

    def send(pipe: Any) -> None:
        pipe.ping()  # a transaction must not be empty
        for job_id in ids:
            pipe.hmget(records.keys.job(job_id), fields)
            pipe.exists(records.keys.lease(job_id))

    def read(replies: list[Any]) -> list[Vitals]:
        return [
            _read_vitals(job_id, values, bool(leased))
            for job_id, values, leased in zip(ids, replies[1::2], replies[2::2], strict=True)
        ]

    return Exchange(send, read)


def _read_vitals(job_id: str, values: list[bytes | None], leased: bool) -> Vitals:
    state, sent_at, submitted_at, priority, requests, pairs = values
    return Vitals(
        job_id=job_id,
        state=JobState(state.decode()) if state else None,
        leased=leased,
        sent_at=float(sent_at) if sent_at else None,
        submitted_at=float(submitted_at or 0),
        priority=int(priority or 0),
        requests=int(requests or 0),
        pairs=int(pairs or 0),
    )


def _strike_off(records: Records, ids: Sequence[str]) -> Exchange[None]:
    """Jobs whose records have expired neither wait nor run."""

    def send(pipe: Any) -> None:
        pipe.zrem(records.keys.queued, *ids)
        pipe.zrem(records.keys.running, *ids)

    return Exchange(send, lambda _: None)


def send_again(job: Vitals) -> None:
    """Put a job's message on the queue, as its producer did."""
    app.send_task(
        names.SCORE_TASK,
        args=(job.job_id,),
        kwargs={"requests": job.requests, "pairs": job.pairs},
        task_id=job.job_id,
        queue=records.keys.queue,
        priority=job.priority,
    )
    reason = "it had no message, or its worker died"
    logbook.say(Event.RESENT, job.job_id, {"pairs": job.pairs}, reason=reason)


class Sweeper(bootsteps.StartStopStep):
    """Has the worker sweep as long as it has a connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._entry: Any = None

    def start(self, consumer: Any) -> None:
        self._entry = consumer.timer.call_repeatedly(settings.sweep_every_s, self._sweep)

    def stop(self, consumer: Any) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _sweep(self) -> None:
        began = time.monotonic()
        try:
            sweep(store(MAIN_TIMEOUT_S), send_again)
        except (RedisUnavailable, OperationalError, redis.RedisError) as error:
            logger.warning("Lost jobs were not looked for: %s", error)
        if (took_s := time.monotonic() - began) > 1:
            logger.warning("Looking for lost jobs took %.1f s", took_s)


app.steps["consumer"].add(Sweeper)
