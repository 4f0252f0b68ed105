"""Encode and compress jobs and results; the first byte of a value shows its format.

    0x78    records: zlib, of a record's JSON
    0x02    columns: Zstandard, of a line of JSON with the columns, and a line of JSON for each
            value of the column `metadata`, if there is one
    0x03    the same, for a job whose documents are cut into passages: earlier workers leave it to
            newer ones

Failures are always stored as records. Jobs and results of earlier versions are records too, and a
result has the format of its job, so that the caller can read it.
"""

from __future__ import annotations

import zlib
from typing import TypeVar

import zstandard
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from contract import limits
from contract.columns import JobColumns
from contract.errors import LimitExceeded, PayloadInvalid, PayloadMissing, PayloadTooNew
from contract.jobs import Job
from contract.records import Record
from contract.settings import Settings
from contract.validation import describe

#: The first byte of each format.
RECORDS, COLUMNS, PASSAGES = b"\x78", b"\x02", b"\x03"
#: The first bytes of formats of newer versions.
NEWER = range(0x04, 0x20)
#: Both formats use the fastest level, because a worker's time costs more than Redis' memory.
LEVEL = 1
#: The maximum number of bytes of a character in JSON: control characters are escape sequences.
MOST_BYTES_PER_CHAR = 6

ColumnsType = TypeVar("ColumnsType", bound=Record)


class CannotDecompress(Exception):
    """The bytes are damaged, too large, or of another format."""


class NewerFormat(CannotDecompress):
    """The bytes have a format of a newer version."""


def encode_job(settings: Settings, columns: JobColumns) -> bytes:
    """Return a job in its stored form, before compression. Raises `LimitExceeded`."""
    body = columns_body(columns)
    limit = settings.max_bytes_per_job
    if len(body) > limit:
        raise LimitExceeded(
            f"job {columns.id} has {len(body):,} bytes, but the limit is {limit:,}"
            " (RERANKQ_MAX_BYTES_PER_JOB); split the job, or send shorter texts"
        )
    limits.check_values(columns.id, body, settings)
    return body


def decode_job(settings: Settings, job_id: str, payload: bytes | None) -> JobColumns:
    """Return the job in `payload`, which is in any format.

    Raises `PayloadMissing`, `PayloadInvalid` or `LimitExceeded`.
    """
    if payload is None:
        raise PayloadMissing(
            f"the payload of job {job_id} is missing; it expired after"
            f" {settings.payload_ttl_s:,} s (RERANKQ_PAYLOAD_TTL_S), or was removed"
        )
    try:
        body = decompress(payload, settings.max_bytes_per_job)
        limits.check_values(job_id, body, settings)
        columns = _read_job(body, are_columns=are_columns(payload))
    except NewerFormat as error:
        raise PayloadTooNew(f"cannot read the payload of job {job_id}: {error}") from error
    except CannotDecompress as error:
        raise PayloadInvalid(f"cannot decompress the payload of job {job_id}: {error}") from error
    except ValidationError as error:
        reason = describe(error)
        raise PayloadInvalid(f"the payload of job {job_id} is invalid: {reason}") from error
    if columns.id != job_id:
        raise PayloadInvalid(f"the payload of job {job_id} belongs to job {columns.id}")
    return columns


def _read_job(body: bytes, *, are_columns: bool) -> JobColumns:
    if are_columns:
        return read_columns(JobColumns, body)
    return JobColumns.of(Job.model_validate_json(body))


def compress_record(body: bytes) -> bytes:
    """Compress the JSON of a record."""
    return zlib.compress(body, level=LEVEL)


def compress_columns(body: bytes, *, passages: bool = False) -> bytes:
    """Compress the lines of columns, which may be those of a job with passages."""
    start = PASSAGES if passages else COLUMNS
    return start + zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(body)


def are_columns(packed: bytes) -> bool:
    """Return whether the value is in the format of columns."""
    return packed.startswith((COLUMNS, PASSAGES))


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Decompress a value of either format, of at most `limit_bytes`. Raises `CannotDecompress`."""
    if packed[:1] and packed[0] in NEWER:
        raise NewerFormat(f"its format {packed[0]} is of a newer version; upgrade this one")
    try:
        if are_columns(packed):
            return _decompress_columns(packed[1:], limit_bytes)
        return _decompress_record(packed, limit_bytes)
    except (zlib.error, zstandard.ZstdError) as error:
        raise CannotDecompress(str(error)) from error


def _decompress_record(packed: bytes, limit_bytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(packed, limit_bytes + 1)
    _check_size(len(body), limit_bytes)
    if not unpacker.eof:
        raise CannotDecompress("it is incomplete")
    return body


def _decompress_columns(packed: bytes, limit_bytes: int) -> bytes:
    # The decompressor allocates as much memory as the frame says that it needs.
    size = zstandard.frame_content_size(packed)
    if size < 0:
        raise CannotDecompress("its size is unknown")
    _check_size(size, limit_bytes)
    return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise CannotDecompress(f"it exceeds {limit_bytes:,} bytes")


def columns_body(columns: Record) -> bytes:
    """Return the lines of columns; those that are None are left out.

    Metadata is passed on as text, because most processes do not need its values.
    """
    fields = {name: getattr(columns, name) for name in type(columns).model_fields}
    metadata = fields.pop("metadata")
    head = to_json({name: value for name, value in fields.items() if value is not None})
    if metadata is None:
        return head
    texts = "\n".join("null" if text is None else text for text in metadata)
    return b"\n".join((head, texts.encode()))


def read_columns(kind: type[ColumnsType], body: bytes, *, ignore_new: bool = False) -> ColumnsType:
    """Return the columns in these lines, with or without fields of a newer version.

    Raises pydantic's `ValidationError`.
    """
    head, separator, rest = body.partition(b"\n")
    try:
        fields = from_json(head)
    except ValueError:
        return kind.model_validate_json(head)  # raises the error
    if separator and isinstance(fields, dict):
        lines = rest.decode(errors="surrogateescape").split("\n")
        fields["metadata"] = [None if line == "null" else line for line in lines]
    return kind.model_validate(fields, extra="ignore" if ignore_new else "forbid")
