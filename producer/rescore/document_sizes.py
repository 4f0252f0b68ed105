"""Check that each document of a staged collection fits into a job."""

from __future__ import annotations

import sqlite3

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.client import preparing
from producer.files.quoting import quoted

#: The maximum number of bytes of a character in JSON.
_BYTES_PER_CHAR = 6


def check_document_sizes(database: sqlite3.Connection, settings: Settings, source: str) -> None:
    """Raise `InvalidInput` if a document alone is too large for a job.

    Queries with too many candidates are split: see `producer.client.splitting`.
    """
    limit = settings.max_bytes_per_job - preparing.ENVELOPE_BYTES
    if _most_bytes(database) <= limit:
        return
    size = (
        "length(CAST(json_quote(coalesce(c.text, d.text)) AS BLOB))"
        " + length(CAST(c.document_id AS BLOB)) + coalesce(length(c.metadata), 0)"
        " + length(CAST(json_quote(q.text) AS BLOB))"
    )
    found = database.execute(
        f"SELECT q.id, c.document_id, {size} AS size"
        " FROM candidates c JOIN queries q ON q.seq = c.query"
        " LEFT JOIN documents d ON d.id = c.document_id"
        # Most documents need not be encoded.
        f" WHERE {_BYTES_PER_CHAR} * (length(coalesce(c.text, d.text)) + length(q.text)"
        "  + length(coalesce(c.metadata, ''))) + length(c.document_id) > ?1 AND size > ?1"
        " ORDER BY size DESC LIMIT 1",
        (limit,),
    ).fetchone()
    if found is not None:
        query_id, document_id, largest = found
        raise InvalidInput(
            f"{source}: document {quoted(document_id)} of query {quoted(query_id)} is"
            f" {largest:,} bytes; the limit of a job is {settings.max_bytes_per_job:,} bytes"
            " (RERANKQ_MAX_BYTES_PER_JOB)"
        )


def _most_bytes(database: sqlite3.Connection) -> int:
    """Return at least the bytes of the largest document with its query, from the longest texts."""
    longest = "SELECT coalesce(max(length(CAST({} AS BLOB))), 0) FROM {}"
    total: int = database.execute(
        "SELECT "
        + " + ".join(
            f"({longest.format(column, table)})"
            for column, table in (
                ("text", "queries"),
                ("text", "documents"),
                ("text", "candidates"),
                ("metadata", "candidates"),
                ("document_id", "candidates"),
            )
        )
    ).fetchone()[0]
    return _BYTES_PER_CHAR * total
