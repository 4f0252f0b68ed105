"""Find the messages that workers hold: those taken from the queue and not yet acknowledged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from contract import names
from contract.store.blocking import JobStore
from contract.store.operation import Operation
from worker.jobs.job_snapshots import BATCH, in_batches

logger = logging.getLogger(__name__)

#: With more held messages than this, lost ones cannot be identified.
MAX_HELD = 20_000


def held_job_ids(store: JobStore, now: float, recently_s: float) -> set[str] | None:
    """Return the ids of jobs whose messages were taken recently, or None if there are too many.

    A killed worker appears to hold its messages until the visibility timeout.
    """
    keys = store.schema.keys
    tags: dict[str, str] = {}
    for seen, (tag, raw) in enumerate(_scan(store)):
        if seen == MAX_HELD:
            logger.warning(
                "Workers hold more than %s messages, too many to search for lost ones",
                f"{MAX_HELD:,}",
            )
            return None
        tags[tag] = job_id_in(raw, 0)
    held = set()
    for batch in in_batches(tags):
        taken = store.execute(_taken_at(keys, batch))
        for tag, taken_at in zip(batch, taken, strict=True):
            if taken_at is not None and abs(now - taken_at) < recently_s:
                held.add(tags[tag])
    return held


def _taken_at(keys: names.Keys, tags: Sequence[str]) -> Operation[list[float | None]]:
    """Return when workers took the messages with these delivery tags."""

    def send(pipe: Any) -> None:
        for tag in tags:
            pipe.zscore(keys.unacked_index, tag)

    return Operation(send, lambda replies: replies)


def _scan(store: JobStore) -> Iterator[tuple[str, bytes]]:
    """Yield the delivery tags and messages that workers hold."""
    cursor = None
    while cursor != 0:
        cursor, found = store.execute(_page(store.schema.keys, cursor or 0))
        yield from ((tag.decode(errors="replace"), raw) for tag, raw in found.items())


def _page(keys: names.Keys, cursor: int) -> Operation[tuple[int, dict[bytes, bytes]]]:
    return Operation(
        lambda pipe: pipe.hscan(keys.unacked, cursor, count=BATCH),
        lambda replies: replies[0],
    )


def job_id_in(raw: bytes, *path: int) -> str:
    """Return the job id in a kombu message, or in a list that contains one; "" if there is none."""
    try:
        message = json.loads(raw)
        for index in path:
            message = message[index]
        return str(message["headers"]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
