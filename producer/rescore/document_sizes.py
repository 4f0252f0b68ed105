"""Check that each document of a staged collection fits into a job."""

from __future__ import annotations

import sqlite3

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.client import preparing
from producer.files.quoting import quoted


def check_document_sizes(database: sqlite3.Connection, settings: Settings, source: str) -> None:
    """Raise `InvalidInput` if a document alone is too large for a job.

    Queries with too many candidates are split: see `producer.client.splitting`.
    """
    limit = settings.max_bytes_per_job - preparing.ENVELOPE_BYTES
    size = (
        "length(CAST(json_quote(coalesce(c.text, d.text)) AS BLOB))"
        " + length(CAST(c.document_id AS BLOB)) + coalesce(length(c.metadata), 0)"
        " + length(CAST(json_quote(q.text) AS BLOB))"
    )
    found = database.execute(
        f"SELECT c.query_id, c.document_id, {size} AS size"
        " FROM candidates c JOIN queries q ON q.id = c.query_id"
        " LEFT JOIN documents d ON d.id = c.document_id"
        # A character in JSON has at most 6 bytes, so most documents need not be encoded.
        " WHERE 6 * (length(coalesce(c.text, d.text)) + length(q.text)"
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
