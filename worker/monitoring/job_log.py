"""What becomes of jobs, as this worker sees it: one line for each change, the same for all.

A line is a sentence for people; its record carries what the sentence says as fields, which
`--log-format json` writes as keys. A job whose payload is no job fails without having run.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TypedDict

from contract.models import short_name

logger = logging.getLogger(__name__)


class Event(StrEnum):
    """What happened to a job."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Another attempt is to be made, with another model ...
    DOWNGRADED = "downgraded"
    #: ... or because this one came to no end: its process was killed, or had no memory left ...
    INTERRUPTED = "interrupted"
    #: ... or because nobody is at it.
    RESENT = "resent"
    #: It cannot be begun, or put on record, just now.
    DEFERRED = "deferred"
    #: It has ended already.
    SKIPPED = "skipped"


#: What somebody may want to look into.
_WARNINGS = (Event.FAILED, Event.DOWNGRADED, Event.INTERRUPTED, Event.RESENT)


class JobFields(TypedDict, total=False):
    """What is known of a job beside its id."""

    pairs: int
    #: Which scores it, or was to.
    model: str
    #: Since the attempt began.
    seconds: float
    attempts: int
    #: Pairs of which the model has read the beginning only.
    truncated: int


def log(
    event: Event,
    job_id: str,
    fields: JobFields | None = None,
    *,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    """Log what happened to a job.

    The code is that of an error, of the reason for another model, or the state of a job that has
    ended; the reason is for people.
    """
    fields = fields or {}
    level = logging.WARNING if event in _WARNINGS else logging.INFO
    sentence = (
        _in_words(event, fields)
        + (f" ({code})" if code else "")
        + (f": {' '.join(reason.split())}" if reason else "")
    )
    extra = {"event": event.value, "job_id": job_id, **fields, "code": code, "reason": reason}
    known = {name: value for name, value in extra.items() if value is not None}
    logger.log(level, "Job %s %s%s", job_id, event, sentence, extra=known)


def _in_words(event: Event, fields: JobFields) -> str:
    truncated, attempts = fields.get("truncated"), fields.get("attempts")
    parts = (
        _work_in_words(event, fields),
        f"{truncated:,} cut" if truncated else "",
        f"attempt {attempts}" if attempts else "",
    )
    words = ", ".join(filter(None, parts))
    return f": {words}" if words else ""


def _work_in_words(event: Event, fields: JobFields) -> str:
    pairs, model, seconds = fields.get("pairs"), fields.get("model"), fields.get("seconds")
    words = []
    if pairs is not None:
        words.append(f"{pairs:,} pairs")
    if model is not None:
        words.append(f"by {short_name(model)}")
    if seconds is not None:
        words.append(f"{'in' if event is Event.DONE else 'after'} {seconds:.3f} s")
    if event is Event.DONE and pairs is not None and seconds:
        words.append(f"({pairs / seconds:,.0f} pairs/s)")
    return " ".join(words)
