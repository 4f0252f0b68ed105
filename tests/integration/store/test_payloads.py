"""A payload that cannot be read as its job is an error with a reason."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
import redis
import redis.asyncio

from contract.errors import (
    PayloadInvalid,
    PayloadMissing,
)
from contract.settings import Settings
from contract.store.encoding import compress_record as compress
from contract.store.operation import Schema
from tests.integration.redis_state import payload
from tests.integration.sample_records import job
from tests.integration.store.conftest import Execute


def test_a_missing_payload_is_an_error_that_says_why(execute: Execute, schema: Schema) -> None:
    with pytest.raises(PayloadMissing, match=r"job gone .*RERANKQ_PAYLOAD_TTL_S"):
        execute(payload(schema, "gone"))


VALID = job("j").model_dump_json().encode()


def changed(**fields: Any) -> bytes:
    """Return a job as JSON with other fields."""
    return json.dumps(json.loads(VALID) | fields).encode()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"no zlib at all",
        VALID,
        compress(VALID)[:-1],
        compress(VALID)[:10],
        compress(VALID)[:-1] + b"x",
        compress(b""),
        compress(b"\xff\xfe"),
        compress(b"[1, 2"),
        compress(b"null"),
        compress(b"{}"),
        compress(changed(requests=[])),
        compress(changed(surprise=1)),
        compress(changed(id="not an id!")),
        compress(changed(requests=[{"query": " ", "candidates": [{"id": "a", "text": "t"}]}])),
        compress(changed(requests=[{"query": "q", "candidates": [{"id": "a", "text": 5}]}])),
        compress(VALID.replace(b'"score":null', b'"score":NaN', 1)),
        compress(b"[" * 100_000),
    ],
    ids=[
        "nothing",
        "garbage",
        "uncompressed",
        "cut by a byte",
        "cut to ten bytes",
        "wrong checksum",
        "compressed nothing",
        "no UTF-8",
        "half a JSON",
        "null",
        "empty object",
        "no requests",
        "unknown field",
        "bad id",
        "blank query",
        "text of wrong type",
        "NaN",
        "deep nesting",
    ],
)
def test_a_payload_that_is_no_job_is_invalid(
    execute: Execute, schema: Schema, client: redis.Redis, stored: bytes
) -> None:
    client.set(schema.keys.payload("j"), stored, ex=60)

    with pytest.raises(PayloadInvalid, match=r"job j\b") as invalid:
        execute(payload(schema, "j"))

    assert "\n" not in str(invalid.value)


def test_a_payload_that_unpacks_to_more_than_the_limit_is_invalid(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    """Limit the size, because a small payload may unpack to a thousand times its size."""
    client.set(schema.keys.payload("j"), zlib.compress(b" " * 1_000_000 + VALID), ex=60)
    strict = Schema(settings.model_copy(update={"max_bytes_per_job": 100_000}))

    assert execute(payload(schema, "j")).id == "j"
    with pytest.raises(PayloadInvalid, match="it exceeds 100,000 bytes"):
        execute(payload(strict, "j"))
