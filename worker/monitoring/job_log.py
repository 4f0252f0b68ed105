"""Log the events of jobs, with one line per event in one format.

A line is a sentence for people. Its record has the same facts as fields, which `--log-format json`
writes as keys. A job with an invalid payload fails without having run.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TypedDict

from contract.models import short_name
from contract.printable import counted

logger = logging.getLogger(__name__)


class Event(StrEnum):
    """An event in the life of a job."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Another attempt follows, with another model ...
    DOWNGRADED = "downgraded"
    #: ... or because this one did not finish: its process was killed, or ran out of memory ...
    INTERRUPTED = "interrupted"
    #: ... or because no worker is running the job.
    RESENT = "resent"
    #: The job cannot be started, or its outcome cannot be recorded, at the moment.
    DEFERRED = "deferred"
    #: The job has already ended.
    SKIPPED = "skipped"


#: Events that an operator may need to look into.
_WARNINGS = (Event.FAILED, Event.DOWNGRADED, Event.INTERRUPTED, Event.RESENT)


class JobFields(TypedDict, total=False):
    """The known facts about a job, in addition to its id."""

    pairs: int
    #: The model that scores the job, or was planned to.
    model: str
    #: Seconds since the attempt started.
    seconds: float
    attempts: int
    #: Pairs whose text was truncated.
    truncated: int
    #: The number of passages, if documents were cut into passages.
    passages: int


def log(
    event: Event,
    job_id: str,
    fields: JobFields | None = None,
    *,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    """Log what happened to a job.

    `code` is the code of an error, of the reason for using another model, or the state of a job
    that has ended. `reason` is text for people.
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
    passages = fields.get("passages")
    parts = (
        _work_in_words(event, fields),
        counted(passages, "passage") if passages else "",
        f"{truncated:,} truncated" if truncated else "",
        f"attempt {attempts}" if attempts else "",
    )
    words = ", ".join(filter(None, parts))
    return f": {words}" if words else ""


def _work_in_words(event: Event, fields: JobFields) -> str:
    pairs, model, seconds = fields.get("pairs"), fields.get("model"), fields.get("seconds")
    words = []
    if pairs is not None:
        words.append(counted(pairs, "pair"))
    if model is not None:
        words.append(f"with {short_name(model)}")
    if seconds is not None:
        words.append(f"{'in' if event is Event.DONE else 'after'} {seconds:.3f} s")
    if event is Event.DONE and pairs is not None and seconds:
        words.append(f"({pairs / seconds:,.0f} pairs/s)")
    return " ".join(words)
