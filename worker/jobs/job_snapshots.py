"""Read the records and leases of jobs, to decide whether a worker will run them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from contract import names
from contract.jobs import JobState
from contract.store import scripts
from contract.store.blocking import JobStore

#: Jobs and messages to request from Redis in one command.
BATCH = 250


@dataclass(frozen=True)
class JobSnapshot:
    """The record and the lease of a job at one moment."""

    job_id: str
    state: JobState | None
    leased: bool
    #: Seconds since the epoch; None if no message is known to have been sent.
    sent_at: float | None
    submitted_at: float
    priority: int
    requests: int
    pairs: int
    #: Whether it waits for its turn in the list of its group.
    waits: bool

    @property
    def step(self) -> int:
        """The priority step of the list that the job's message belongs to."""
        return names.priority_step(min(9, max(0, self.priority)))


def fetch(store: JobStore, ids: Iterable[str]) -> list[JobSnapshot]:
    """Return snapshots of these jobs. Raises `RedisUnavailable`."""
    schema = store.schema
    found: list[JobSnapshot] = []
    for batch in in_batches(ids):
        keys = [key for each in batch for key in (schema.keys.job(each), schema.keys.lease(each))]
        found += store.execute(scripts.call("read_job_states", keys, (), partial(_read, batch)))
    return found


def in_batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield ids in batches that are small enough for one command."""
    rest = list(ids)
    for start in range(0, len(rest), BATCH):
        yield rest[start : start + BATCH]


def _read(ids: Sequence[str], replies: list[Any]) -> list[JobSnapshot]:
    return [
        _read_snapshot(job_id, values or [None] * 7, bool(leased))
        for job_id, (leased, values) in zip(ids, replies[0], strict=True)
    ]


def _read_snapshot(job_id: str, values: list[bytes | None], leased: bool) -> JobSnapshot:
    state, sent_at, submitted_at, priority, requests, pairs, turn = values
    return JobSnapshot(
        job_id=job_id,
        state=_state(state),
        leased=leased,
        sent_at=number(sent_at),
        submitted_at=number(submitted_at) or 0.0,
        priority=int(number(priority) or 0),
        requests=int(number(requests) or 0),
        pairs=int(number(pairs) or 0),
        waits=turn == b"waits" and _state(state) is JobState.QUEUED,
    )


def _state(raw: bytes | None) -> JobState | None:
    found = (raw or b"").decode(errors="replace")
    return JobState(found) if found in list(JobState) else None


def number(raw: bytes | None) -> float | None:
    """Return the number in a field of a record, or None if it has none."""
    try:
        return float(raw) if raw else None
    except ValueError:
        return None
