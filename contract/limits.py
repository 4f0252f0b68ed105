"""Check the limits of a job: in the producer before it sends, and again in the worker."""

from __future__ import annotations

import re

from contract.columns import JobColumns
from contract.errors import LimitExceeded, ModelNotAllowed
from contract.jobs import Job
from contract.models import INT8_ADVICE, NO_INT8, is_int8
from contract.printable import shortened
from contract.settings import Settings

#: The number of JSON values that a candidate may hold: its id, text, score and metadata.
VALUES_PER_PAIR = 200

#: A string in JSON. The pattern never backtracks, whatever the text.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def check(job: Job | JobColumns, settings: Settings, *, may_split: bool = False) -> None:
    """Raise `LimitExceeded` or `ModelNotAllowed` if the settings do not allow the job.

    With `may_split`, one query may have any number of candidates: see `producer.client.splitting`.
    The size in bytes is checked when the job is encoded: see `contract.store.encoding`.
    """
    columns = job if isinstance(job, JobColumns) else JobColumns.of(job)
    if columns.pairs > settings.max_pairs_per_job and not (may_split and len(columns.queries) == 1):
        raise LimitExceeded(
            f"job {job.id} has {columns.pairs:,} pairs, but the limit is"
            f" {settings.max_pairs_per_job:,} (RERANKQ_MAX_PAIRS_PER_JOB); split it into several"
            " jobs"
        )
    check_model(columns.model, settings)
    _check_lengths(columns, settings)


def check_values(job_id: str, body: bytes, settings: Settings) -> None:
    """Raise `LimitExceeded` if a job's JSON holds more values than its pairs can need.

    Small values take a hundred times more memory than their JSON, so a byte limit is not enough.
    """
    limit = VALUES_PER_PAIR * settings.max_pairs_per_job
    # Counting the commas in texts too is faster, and enough for most jobs to pass.
    if _count_values(body) > limit and (values := _count_values(_STRING.sub(b"", body))) > limit:
        raise LimitExceeded(
            f"job {job_id} has {values:,} JSON values, but the limit is {limit:,}"
            f" ({VALUES_PER_PAIR} x RERANKQ_MAX_PAIRS_PER_JOB); split the job, or send less"
            " metadata"
        )


def _count_values(body: bytes) -> int:
    return len(body) - len(body.translate(None, b",[{"))


def check_model(model: str | None, settings: Settings) -> None:
    """Raise `ModelNotAllowed` if jobs may not request `model`; None is the worker's default."""
    if model is not None and not settings.allows(model):
        named = shortened(repr(model))
        if is_int8(model):
            raise ModelNotAllowed(f"model {named} is not allowed: {NO_INT8}. {INT8_ADVICE}")
        allowed = dict.fromkeys((settings.cross_encoder_model, *settings.allowed_models))
        raise ModelNotAllowed(
            f"model {named} is not allowed (allowed: {', '.join(allowed)}); to allow it, add it"
            " to RERANKQ_ALLOWED_MODELS"
        )


def _check_lengths(columns: JobColumns, settings: Settings) -> None:
    most = settings.max_text_chars
    if max(map(len, (*columns.queries, *columns.texts))) <= most:
        return
    for query in columns.queries:
        _check_length("the query", query, most)
    for document_id, text in zip(columns.ids, columns.text_indexes, strict=True):
        _check_length(f"document {document_id!r}", columns.texts[text], most)


def _check_length(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise LimitExceeded(
            f"{what} has {len(text):,} characters, but the limit is {most:,}"
            " (RERANKQ_MAX_TEXT_CHARS)"
        )
