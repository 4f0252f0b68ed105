"""rank_llm's files are read in both of its forms, and its reader reads what is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.settings import Settings
from producer.files import json_arrays
from producer.files.compression import RefusedFile
from producer.files.outputs import atomic_file
from producer.formats.records import InvalidLines
from producer.formats.requests import read_requests
from producer.rescore import run_writers
from producer.rescore.staging import Staging
from tests.unit.formats.samples import read, refusal

REQUESTS: list[dict[str, Any]] = [
    {
        "query": {"text": 'a "[{" query', "qid": number},
        "candidates": [
            {"docid": "d1", "score": 2.5, "doc": {"contents": 'one \\ "}]"', "url": "u"}},
            {"docid": 7, "score": 1.5, "doc": {"title": "T", "segment": "zwölf\n!"}},
        ],
    }
    for number in (1, 2)
]


def reader(content: bytes) -> Callable[[int], bytes]:
    """Return a function that reads one byte at a time."""
    rest = list(content)
    return lambda _: bytes([rest.pop(0)]) if rest else b""


@pytest.mark.parametrize("indent", [2, None])  # rank_llm's writer, and plain json.dump
def test_an_array_is_read_like_lines(tmp_path: Path, indent: int | None) -> None:
    array = json.dumps(REQUESTS, indent=indent, ensure_ascii=False)
    lines = "".join(f"{json.dumps(each)}\n" for each in REQUESTS)
    from_array = read(read_requests, tmp_path / "in.json", array)
    assert from_array == read(read_requests, tmp_path / "in.jsonl", lines)
    assert [each.query_id for each in from_array] == ["1", "2"]
    assert [(each.id, each.text, each.score) for each in from_array[0].candidates] == [
        ("d1", 'one \\ "}]"', 2.5),
        ("7", "T zwölf\n!", 1.5),
    ]


def test_elements_are_found_wherever_a_read_ends() -> None:
    content = json.dumps(REQUESTS, indent=1).encode()
    found = list(json_arrays.elements(reader(content), 2**20))
    assert [json.loads(each) for each in found] == REQUESTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"query": 1}, 5]', "2: expected an object, found ', 5]'"),
        ('[{"query": 1}, ["a"]]', "2: expected an object, found '['"),
        ('[{"query": 1},]', "2: expected an object, found ',]'"),
        ('[{"query": 1} {"query": 2}]', "2: expected an object, found '{'"),
        ('[{"query": 1}, {"que', "2: the array ends too early"),
        ('[{"query": 1}]\n[{"query": 2}]', "2: the array has ended, but the file continues"),
    ],
)
def test_an_array_of_anything_else_is_refused_by_the_element(content: str, message: str) -> None:
    with pytest.raises(RefusedFile) as caught:
        list(json_arrays.elements(reader(content.encode()), 2**20))
    assert str(caught.value).startswith(message)


def test_an_invalid_element_is_named(tmp_path: Path) -> None:
    text = json.dumps([*REQUESTS, {"query": {"qid": "q"}, "candidates": [3]}])
    message = refusal(read_requests, tmp_path / "in", text)
    assert message.startswith("3: each candidate needs")
    texts = '[{"_id": "d1", "text": "one"}]'
    assert "looks like ids with texts" in refusal(read_requests, tmp_path / "in", texts)
    assert "the file is empty" in refusal(read_requests, tmp_path / "in", "[]")


def test_an_element_is_yielded_before_the_array_is_complete() -> None:
    incomplete = b'[{"n": "' + os.urandom(2**16).hex().encode() + b'"}, {"n"'
    chunks = [incomplete]
    found = json_arrays.elements(lambda _: chunks.pop(), 2**20)
    assert len(next(found)) == 2**17 + len('{"n": ""}')
    chunks.append(b"." * (2**20 + 1))
    with pytest.raises(RefusedFile, match="2: the element is longer than 1 MiB"):
        next(found)


def test_what_is_written_is_what_rank_llm_reads(tmp_path: Path) -> None:
    source, output = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps(REQUESTS))
    provenance = {"model": "m", "revision": None, "downgraded": False}
    lines: list[dict[str, Any]] = [
        {"query_id": "1", "ids": ["7", "d1"], "indexes": [1, 0], "scores": [0.5, -1.0]}
        | {"truncated": 0, "provenance": provenance},
        {"query_id": "2", "error": {"code": "E", "message": "it failed", "retryable": True}},
    ]
    with Staging(Settings.load(), InvalidLines()) as staging, atomic_file(str(output)) as file:
        staging.load_requests(str(source))
        run_writers.FORMATS["rank_llm"].write(file, lines, staging.staged_query)
    # rank_llm makes its dataclasses from exactly these fields.
    assert json.loads(output.read_text()) == [
        {
            "query": {"text": 'a "[{" query', "qid": "1"},
            "candidates": [
                {"docid": "7", "score": 0.5, "doc": {"text": "T zwölf\n!"}},
                {"docid": "d1", "score": -1.0, "doc": {"text": 'one \\ "}]"'}},
            ],
        }
    ]
    (again,) = read(read_requests, output, output.read_text())
    assert [each.score for each in again.candidates] == [0.5, -1.0]


def test_a_run_without_rankings_is_an_empty_array(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with Staging(Settings.load(), InvalidLines()) as staging, atomic_file(str(output)) as file:
        run_writers.FORMATS["rank_llm"].write(file, [], staging.staged_query)
    assert json.loads(output.read_text()) == []
