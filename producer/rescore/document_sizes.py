"""Check that each document of a staged collection fits into a job."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from pydantic_core import to_json

from contract.errors import InvalidInput
from contract.settings import Settings
from contract.store.encoding import MOST_BYTES_PER_CHAR
from producer.client import grouping
from producer.files.quoting import quoted
from producer.rescore.staged_query import StagedQuery


def check_document_sizes(
    database: sqlite3.Connection, queries: Iterable[StagedQuery], settings: Settings, source: str
) -> None:
    """Raise `InvalidInput` if a document alone is too large for a job.

    Queries with too many candidates are split: see `producer.client.splitting`. The queries are
    only read if a document may be too large.
    """
    limit = settings.max_bytes_per_job - grouping.ENVELOPE_BYTES
    if _most_bytes(database) <= limit:
        return
    too_large = (found for query in queries for found in _larger(query, limit))
    largest, query_id, document_id = max(too_large, default=(0, "", ""))
    if largest:
        raise InvalidInput(
            f"{source}: document {quoted(document_id)} of query {quoted(query_id)} is"
            f" {largest:,} bytes; the limit of a job is {settings.max_bytes_per_job:,} bytes"
            " (RERANKQ_MAX_BYTES_PER_JOB)"
        )


def _larger(query: StagedQuery, limit: int) -> Iterator[tuple[int, str, str]]:
    """Yield the bytes, the query and the id of each document with more bytes than `limit`."""
    around = len(to_json(query.text))
    for document_id, text, metadata in zip(
        query.document_ids, query.texts, query.metadata, strict=True
    ):
        chars = len(document_id) + len(text) + len(query.text) + len(metadata or "")
        # Most documents do not have to be encoded.
        if MOST_BYTES_PER_CHAR * chars <= limit:
            continue
        size = around + len(to_json(text)) + len(document_id.encode()) + len(metadata or "")
        if size > limit:
            yield size, query.id, document_id


def _most_bytes(database: sqlite3.Connection) -> int:
    """Return at least the bytes of the largest document with its query, from the longest texts."""
    total: int = database.execute(
        "SELECT (SELECT coalesce(max(length(CAST(text AS BLOB))), 0) FROM queries)"
        " + (SELECT coalesce(max(length(CAST(text AS BLOB))), 0) FROM documents)"
        " + (SELECT coalesce(max(longest), 0) FROM candidates)"
    ).fetchone()[0]
    return MOST_BYTES_PER_CHAR * total
