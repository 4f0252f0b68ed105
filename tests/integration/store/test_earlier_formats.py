"""Jobs and results that the previous version stored are read, and the current format is fixed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import redis
import zstandard

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.errors import JobConflict, PayloadInvalid, PayloadTooNew
from contract.passages import Passages
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.encoding import COLUMNS, columns_body, compress_columns, read_columns
from contract.store.operation import Schema
from tests.integration.redis_state import payload
from tests.integration.sample_records import failure_of
from tests.integration.store.conftest import Execute

JOB = jobs.Job(
    id="earlier",
    requests=(
        jobs.Request(
            query="edit mp3 tags",
            query_id="q1",
            top_k=2,
            candidates=(
                jobs.Candidate(id="a", text="a chess game", score=2.5),
                jobs.Candidate(
                    id="b ü", text="an editor for the tags of MP3 files", metadata={"n": [1, None]}
                ),
                jobs.Candidate(id="c", text="a chess game"),
            ),
        ),
        jobs.Request(query="chess", candidates=(jobs.Candidate(id="a", text=""),)),
    ),
)
STORED_JOB = base64.b64decode(
    "eAGFkE1qwzAQha8yzFoE0tCN71DovgQzscaOqCwlkkwajG/WXS/WkdQE0x+6EIj5+d6bN6PR2CBTsIYDKgx8njimiM3L"
    "jPIN19zWJsF42kGiIcpQR04bTYnrWEGQ1BO/JRkn6I4cIww0slRj5wNj87B5VDhyIlkkbNxk7aLmqn+Aj/fVvoOs6AP0"
    "8tKRiy74Hp6ed9AbK7p3bOasuTM68b5Vub5f7grdCv+rve+c4m+vagZtOfG8zRB/al/lmky+5VPOld4/ufxt+qdYtfMl"
    "dmuPXrOt0Skka/2l1f7ihkBaAk5h4uUT5l2a3g=="
)
#: The digest under which it was submitted.
STORED_DIGEST = "c6490eededeec0ef8eac9f3fa5bddba28d6b93043e4a6aa1764e9dad07c6870f"
STORED_RESULT = base64.b64decode(
    "eAGFUUtugzAQvUo1a4oMlIZylSpCA56kbsEmtkkTIW7WXS/WMSEiiiJ1Z/uN32feCJ+mrpSEEghtq8hCBBb1l9J7B+X7"
    "CIeB7PkycUgYlKYZOtL+gs4/66ffH0aUlnSCMrkQzAfXGEt8ivMif8s2OUPU0hF1w68iLjIhXkQWQUceJXqEcgTNskmk"
    "h7bdTlM0wiyBK7+48qcRLPzPeVy8bu7IhUiLW+bAOG0j8HbQDXrizEngXwOGiYcBH6lzzFX9PhjH+kdaBCu9NUfSl22M"
    "0BlJbWWJDbnZHjg/1Bx8Brih5WrpqJwyvKer4W+9tyhDoh22jsIi0K0D6D11fWiMTdfYfJEOhS90kulCHdD0Q+jXn/tw"
    "27UGfZYGeTxVLem9/4AyT3jrPSrLZBxx0IrdVssDF+kNkzOWcUs3i+abo8ZoyZCIU15Xj3Y2NE1/o+TOyA=="
)
PROVENANCE = jobs.Provenance(
    model_requested="stub",
    model="stub",
    attempts=1,
    backend="stub",
    device="cpu",
    dtype="float32",
    max_length=512,
    pairs=4,
    unique_pairs=3,
    tokens=30,
    truncated=0,
    seconds=0.25,
)


def document(document_id: str, index: int, rank: int, score: float, relevance: float) -> Any:
    return {
        "id": document_id,
        "index": index,
        "rank": rank,
        "score": score,
        "relevance": relevance,
        "metadata": {"n": [1, None]} if document_id == "b ü" else None,
    }


RESULT = jobs.JobResult.model_validate(
    {
        "job_id": "earlier",
        "provenance": PROVENANCE,
        "rankings": [
            {
                "query_id": "q1",
                "documents": [
                    document("b ü", 1, 1, 1.5859375, 0.8300403),
                    document("a", 0, 2, -5.867, 0.0028),
                ],
                "truncated": 1,
            },
            {"query_id": None, "documents": [document("a", 0, 1, -5.5, 0.004)]},
        ],
    }
)
#: What this version stores, which later versions must read.
JOB_BODY = (
    '{"id":"earlier","allow_downgrade":true,"queries":["edit mp3 tags","chess"],'
    '"query_ids":["q1",null],"top_ks":[2,null],"counts":[3,1],"ids":["a","b ü","c","a"],'
    '"text_indexes":[0,1,0,2],"scores":[2.5,null,null,null],'
    '"texts":["a chess game","an editor for the tags of MP3 files",""]}\n'
    'null\n{"n":[1,null]}\nnull\nnull'
).encode()
RESULT_END = (
    '"query_ids":["q1",null],"truncated":[1,0],"counts":[2,1],"ids":["b ü","a","a"],'
    '"indexes":[1,0,0],"scores":[1.5859375,-5.867,-5.5]}\n{"n":[1,null]}\nnull\nnull'
).encode()


def test_a_job_of_the_previous_version_is_read(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    client.set(schema.keys.payload("earlier"), STORED_JOB, ex=60)
    assert execute(payload(schema, "earlier")) == JOB


def test_a_result_of_the_previous_version_is_read(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    client.set(schema.keys.outcome("earlier"), STORED_RESULT, ex=60)
    found = execute(outcomes.fetch(schema, ["earlier"]))["earlier"]
    assert str(found) == str(RESULT)
    columns = execute(outcomes.fetch_columns(schema, ["earlier"]))["earlier"]
    assert columns == ResultColumns.of(RESULT)


def test_a_job_that_the_previous_version_submitted_is_recognized(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    # Given a job that is stored by the previous version, and whose message was sent
    execute(submissions.accept(schema, JOB))
    client.hset(schema.keys.job("earlier"), mapping={"digest": STORED_DIGEST, "sent_at": 1})
    # When it is submitted again, then it is the same job, and another one is not
    assert execute(submissions.accept(schema, JOB)).sent
    with pytest.raises(JobConflict):
        execute(submissions.accept(schema, JOB.model_copy(update={"model": "bundled"})))


def test_the_format_of_jobs_and_results_is_fixed() -> None:
    assert columns_body(JobColumns.of(JOB)) == JOB_BODY
    assert read_columns(JobColumns, JOB_BODY).job() == JOB
    assert columns_body(ResultColumns.of(RESULT)).endswith(RESULT_END)
    assert compress_columns(JOB_BODY)[:5] == b"\x02\x28\xb5\x2f\xfd"


def test_a_result_is_stored_in_the_format_in_which_it_is_given_and_a_failure_as_a_record(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    first_bytes = {}
    ends: dict[str, jobs.Outcome | ResultColumns] = {
        "record": RESULT.model_copy(update={"job_id": "record"}),
        "columns": ResultColumns.of(RESULT).model_copy(update={"job_id": "columns"}),
        "failure": failure_of("failure"),
    }
    for name, outcome in ends.items():
        execute(submissions.accept(schema, JOB.model_copy(update={"id": name})))
        assert execute(outcomes.finish(schema, outcome))
        stored: Any = client.get(schema.keys.outcome(name))
        first_bytes[name] = stored[:1]
    assert first_bytes == {"record": b"\x78", "columns": b"\x02", "failure": b"\x78"}


PACKED = compress_columns(JOB_BODY)


def without_size(body: bytes) -> bytes:
    """Return a valid frame that does not say how large its contents are."""
    stream = zstandard.ZstdCompressor().compressobj()
    return COLUMNS + stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (PACKED[:1], "cannot decompress"),
        (PACKED[:10], "cannot decompress"),
        (PACKED[:-1], "cannot decompress"),
        (PACKED[:-1] + b"x", "cannot decompress"),
        (PACKED + b"x", "cannot decompress"),
        (PACKED[1:], "cannot decompress"),
        (b"\x01" + PACKED[1:], "cannot decompress"),
        (without_size(JOB_BODY), "its size is unknown"),
        (compress_columns(b""), "invalid JSON"),
        (compress_columns(b"null"), "must be an object, not null"),
        (compress_columns(b"{}"), "id: is required"),
        (compress_columns(b"[" * 100_000), "invalid JSON"),
        (compress_columns(b'{"id":"\xff"}'), "invalid JSON"),
        (compress_columns(JOB_BODY + b"\nnull"), "metadata: must have 4 entries, not 5"),
        (compress_columns(JOB_BODY.replace(b'{"n":[1,null]}', b"[1]")), r"metadata\[1\]: must be"),
        (compress_columns(JOB_BODY.replace(b"[1,null]", b'"\xff"')), r"metadata\[1\]: must be"),
        (compress_columns(JOB_BODY.replace(b"[3,1]", b"[3,2]")), "counts: must add up to 4"),
        (compress_columns(JOB_BODY.replace(b"[0,1,0,2]", b"[0,1,0,3]")), "text_indexes: must be"),
        (compress_columns(JOB_BODY.replace(b'"earlier"', b'"another"')), "belongs to job another"),
    ],
)
def test_columns_that_are_no_job_are_invalid(
    execute: Execute, schema: Schema, client: redis.Redis, stored: bytes, said: str
) -> None:
    client.set(schema.keys.payload("earlier"), stored, ex=60)

    with pytest.raises(PayloadInvalid, match=said) as invalid:
        execute(payload(schema, "earlier"))

    assert "\n" not in str(invalid.value)


def test_a_job_with_passages_is_left_by_earlier_workers_to_newer_ones(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    cut = JOB.model_copy(update={"passages": Passages(tokens=128, stride=64)})
    execute(submissions.accept(schema, cut))
    stored: Any = client.get(schema.keys.payload("earlier"))
    # They keep a job with such a first byte as a dead letter, until they are upgraded
    assert stored[:1] == b"\x03"
    assert execute(payload(schema, "earlier")) == cut
    # Without passages, neither the job nor its digest has changed
    assert JobColumns.of(cut.model_copy(update={"passages": None})) == JobColumns.of(JOB)
    assert "passages" not in JOB.model_dump_json()
    with pytest.raises(JobConflict):
        execute(submissions.accept(schema, JOB))


def test_a_job_of_a_newer_version_is_kept_for_an_upgraded_worker(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    client.set(schema.keys.payload("earlier"), b"\x04" + PACKED[1:], ex=60)
    with pytest.raises(PayloadTooNew, match="format 4 is of a newer version") as too_new:
        execute(payload(schema, "earlier"))
    assert too_new.value.dead_letter
    assert too_new.value.retryable


def test_columns_larger_than_the_limit_are_refused_before_memory_is_taken_for_them(
    execute: Execute, client: redis.Redis, settings: Settings
) -> None:
    strict = Schema(settings.model_copy(update={"max_bytes_per_job": 100_000}))
    client.set(strict.keys.payload("earlier"), compress_columns(b" " * 10**6 + JOB_BODY), ex=60)
    with pytest.raises(PayloadInvalid, match="it exceeds 100,000 bytes"):
        execute(payload(strict, "earlier"))

    # A frame with a single segment begins with its size, here 2**40 bytes.
    forged = COLUMNS + b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + b"\x01\x00\x00"
    client.set(strict.keys.payload("earlier"), forged, ex=60)
    with pytest.raises(PayloadInvalid, match="it exceeds 100,000 bytes"):
        execute(payload(strict, "earlier"))
