"""Staged queries become the same jobs, as columns, as their requests do as records."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from pydantic_core import to_json

from contract import jobs
from contract.columns import JobColumns
from contract.passages import Passages
from contract.settings import Settings
from contract.store.encoding import MOST_BYTES_PER_CHAR
from producer.client import grouping, preparing
from producer.rescore import packing
from producer.rescore.staged_query import StagedQuery

TEXTS = ["", "text", "\u65e5\u672c", 'a "quote" \\', "\u0001\u2028", "long " * 40, "\U0001f600"]
METADATA = [None, '{"a": [null, 1.0, {"b": "\\u00fc"}]}', "{}"]


def staged(number: int, chance: random.Random) -> StagedQuery:
    pairs = chance.randint(1, 9)
    return StagedQuery(
        f"q\u00e9{number}",
        chance.choice(TEXTS) + " query",
        [f"d\u00fc{place}" for place in range(pairs)],
        chance.choices(TEXTS, k=pairs),
        chance.choices([None, 1.0, -2.5e-7, 1e300, 1 / 3], k=pairs),
        chance.choices(METADATA, k=pairs),
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_groups_are_those_of_the_requests(seed: int) -> None:
    chance = random.Random(seed)
    queries = [staged(number, chance) for number in range(40)]
    max_pairs, max_bytes = chance.choice([1, 10, 50, 10_000]), chance.choice([600, 4_000, 10**6])
    passages = chance.choice([None, Passages(tokens=8, stride=4)])
    groups = packing.pack(
        iter(queries), max_pairs=lambda _: max_pairs, max_bytes=max_bytes, passages=passages
    )
    of_records = grouping.pack(
        [each.request(None) for each in queries],
        max_pairs=lambda _: max_pairs,
        max_bytes=max_bytes,
        passages=passages,
    )
    assert [[each.id for each in group] for group in groups] == [
        [each.query_id for each in group] for group in of_records
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_size_of_a_query_is_that_of_its_request(seed: int) -> None:
    query = staged(seed, random.Random(seed))
    assert query.size_bytes == len(query.request(None).model_dump_json().encode()) + 1
    assert query.size_bytes <= query.most_bytes


def test_no_character_has_more_bytes_than_is_assumed() -> None:
    characters = map(chr, (*range(0x300), 0x2028, 0xFFFF, 0x10FFFF))
    most = max(len(to_json(each)) - len('""') for each in characters)
    assert most == MOST_BYTES_PER_CHAR


@pytest.mark.parametrize("top_k", [None, 3])
def test_a_job_has_the_columns_of_its_record(top_k: int | None) -> None:
    settings, chance = Settings.load(), random.Random(1)
    queries = [staged(number, chance) for number in range(10)]
    made = packing.job(
        queries, settings, model=None, job_id="j1", allow_downgrade=False, top_k=top_k
    )
    record = preparing.job(
        [each.request(top_k) for each in queries], settings, job_id="j1", allow_downgrade=False
    )
    assert isinstance(made, JobColumns)
    assert JobColumns.model_validate(made.model_dump()).job() == record
    assert made.texts == JobColumns.of(record).texts


def test_a_query_that_is_too_large_for_a_job_stays_a_record_that_can_be_split() -> None:
    query = staged(3, random.Random(0))
    settings = Settings.load(max_pairs_per_job=query.pairs - 1)
    made = packing.job([query], settings, model=None, job_id="j1", allow_downgrade=True, top_k=None)
    assert isinstance(made, jobs.Job)
    assert made.requests == (query.request(None),)


def test_a_run_is_as_large_as_its_estimated_passages() -> None:
    chance = random.Random(1)
    queries = [
        replace(staged(number, chance), document_ids=["a", "b"], texts=["word " * 200, "short"])
        for number in range(3)
    ]
    cut = Passages(tokens=100, stride=50)
    # Of two documents, one has 250 tokens, and so four passages
    assert packing.estimated_run_pairs(iter(queries), 600, cut) == 600 * 5 // 2
    assert packing.estimated_run_pairs(iter(queries), 600, None) == 600
    assert packing.estimated_run_pairs(iter(()), 0, cut) == 0
    # A job has fewer queries then
    groups = list(
        packing.pack(iter(queries), max_pairs=lambda _: 10, max_bytes=10**6, passages=cut)
    )
    assert list(map(len, groups)) == [2, 1]
