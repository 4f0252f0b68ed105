"""A reader that needs some ids returns the same records of them as one that reads all."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.formats.corpus import read_needed_texts
from producer.formats.needed import Needed
from producer.formats.records import InvalidLines
from producer.formats.requests import read_needed_requests, read_requests
from producer.formats.trec_run import read_needed_run, read_run
from tests.unit.formats.samples import Reader, rank_llm_line, request_line, texts, write
from tests.unit.formats.test_blocks import (
    COLUMN_LINES,
    ODD_COLUMN_LINES,
    ODD_RUN_LINES,
    ODD_TEXT_LINES,
    RUN_LINES,
    TEXT_LINES,
)

NeededReader = Callable[[str, InvalidLines, Needed], Iterator[tuple[int, Any]]]

RUN_IN_TABS = [line.replace(" ", "\t") for line in RUN_LINES]
MSMARCO_DOCUMENTS = [f"D{n}\thttps://x.org/{n}\ttitle {n}\tbody {n}" for n in range(5)]
REQUEST_LINES = [request_line(query_id=f"q{n}").strip() for n in range(6)]
ODD_REQUEST_LINES = [
    *(request_line(query_id=7).strip(), request_line(query_id=None).strip(), rank_llm_line()),
    request_line(query='the "query_id" is "q2"').strip(),
    request_line(query_id="q 2").strip(),
    '{"query_id": "q1", "query_id": "q2", "query": "q", "candidates": [{"id": "d", "text": "t"}]}',
    json.dumps({"custom_id": "q2", "body": {"query": "q", "documents": ["t"]}}),
    *('{"query_id": "q1", "query": "q"', '{"query_id": "q1", "query": "q"}', "no", ""),
]
PAIR_LINES = [f"q{n // 2}\td{n}\ta query {n // 2}\ttext {n}" for n in range(8)]
ODD_PAIR_LINES = [" q1 \td9\ta query 1\ttext", "q1\td9\t\ttext", "q1\td9\ta query 1\ta\tb", "no"]


def needed_run(path: str, bad: InvalidLines, needed: Needed) -> Iterator[tuple[int, Any]]:
    return read_needed_run(path, bad, None, needed)


def needed_texts(path: str, bad: InvalidLines, needed: Needed) -> Iterator[tuple[int, Any]]:
    return read_needed_texts(path, bad, 100, None, needed)


every_kind = pytest.mark.parametrize(
    ("reader", "reads_needed", "usual", "odd"),
    [
        (read_run, needed_run, RUN_LINES, ODD_RUN_LINES),
        (read_run, needed_run, RUN_IN_TABS, ["q0 \tQ0\td9\t1\t2.5\ttag", *ODD_RUN_LINES]),
        (texts, needed_texts, TEXT_LINES, ODD_TEXT_LINES),
        (texts, needed_texts, COLUMN_LINES, [*ODD_COLUMN_LINES, "d1 \tone"]),
        (texts, needed_texts, MSMARCO_DOCUMENTS, [*ODD_COLUMN_LINES, "D1 \thttp://x\ta\tb\tc"]),
        (read_requests, read_needed_requests, REQUEST_LINES, ODD_REQUEST_LINES),
        (read_requests, read_needed_requests, PAIR_LINES, ODD_PAIR_LINES),
    ],
    ids=["run", "tabs", "JSON", "columns", "documents", "requests", "pairs"],
)


def nothing(_: bytes) -> None:
    pass


@every_kind
@pytest.mark.parametrize("seed", range(6))
def test_the_records_needed_are_those_of_the_whole_file(
    tmp_path: Path,
    reader: Reader,
    reads_needed: NeededReader,
    usual: list[str],
    odd: list[str],
    seed: int,
) -> None:
    chance = random.Random(seed)
    lines = [usual[0], *chance.choices([*usual, *chance.choices(odd, k=seed)], k=40)]
    path = write(tmp_path / "file", chance.choice(["\n", "\r\n"]).join(lines))
    bad, bad_of_needed = InvalidLines(skip=True), InvalidLines(skip=True)
    whole = dict(reader(path, bad))
    ids = sorted({_id(record) for record in whole.values()})
    wanted = set(chance.sample(ids, len(ids) // 2))
    needed = Needed(lambda some: wanted & set(some), nothing)
    found = dict(reads_needed(path, bad_of_needed, needed))

    # Others are the same, or are not parsed.
    parsed = {number: record for number, record in found.items() if record is not None}
    assert all(whole[number] == record for number, record in parsed.items())
    assert {number for number, each in whole.items() if _id(each) in wanted} <= parsed.keys()
    assert whole.keys() <= found.keys()
    assert bad_of_needed.count <= bad.count


def _id(record: Any) -> str:
    return str(record[0] if isinstance(record, tuple) else record.query_id)


@every_kind
def test_only_the_lines_needed_are_parsed(
    tmp_path: Path, reader: Reader, reads_needed: NeededReader, usual: list[str], odd: list[str]
) -> None:
    path = write(tmp_path / "file", "\n".join(usual))
    needed = Needed(lambda _: (), nothing)
    # The first line may be a header.
    (_, first), *others = reads_needed(path, InvalidLines(), needed)
    assert first is not None
    assert [record for _, record in others] == [None] * (len(usual) - 1)


@every_kind
def test_the_contents_seen_do_not_depend_on_compression_or_line_ends(
    tmp_path: Path, reader: Reader, reads_needed: NeededReader, usual: list[str], odd: list[str]
) -> None:
    lines = usual * 3_000  # several blocks
    seen = set()
    for content in (
        "\n".join(lines).encode(),
        "\r\n".join([*lines, ""]).encode(),
        gzip.compress("\n".join([*lines, ""]).encode(), 1),
    ):
        some: list[bytes] = []
        needed = Needed(lambda _: (), some.append)
        assert sum(1 for _ in reads_needed(write(tmp_path / "f", content), InvalidLines(), needed))
        seen.add(b"".join(some))
    assert seen == {"\n".join([*lines, ""]).encode()}
