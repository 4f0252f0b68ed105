"""Judgments are read from the columns of BEIR and TREC."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.formats.qrels import Judgment, read_qrels
from tests.unit.formats.samples import (
    QRELS,
    read,
    refusal,
)


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\n",
        "q1\td1\t2\nq1\td2\t-1\n",
        "q1 0 d1 2\nq1 0 d2 -1\n",
        "q1\t0\td1\t2\nq1\tQ0\td2\t-1\n",
        "q1 0\td1\t2\nq1\t0 d2\t-1\n",
        "  q1  0 \t d1   2 \nq1 0 d2 -1\t\n",
        "q1\td1\t2\t\nq1\td2\t-1\t\n",
        "q1 d1 2.0\nq1 d2 -1\n",
    ],
)
def test_qrels_may_be_beirs_or_trecs(tmp_path: Path, content: str) -> None:
    assert read(read_qrels, tmp_path / "qrels", content) == [
        Judgment("q1", "d1", 2),
        Judgment("q1", "d2", -1),
    ]


@pytest.mark.parametrize(
    "line", ["q1 1", "q1 0 d1 1 1", "q1 0 d1 yes", "q1 0 d1 nan", "q1\td1\tinf", "q1\td1\t"]
)
def test_a_wrong_judgment_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    assert refusal(read_qrels, tmp_path / "qrels", f"{QRELS}{line}\n").startswith("3: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q 1\td1\t1", "invalid id 'q 1'"),
        ("q1\td 1\t1", "invalid id 'd 1'"),
        ("q1\t0\td 1\t1", "invalid id 'd 1'"),
        ("q1\t0\t\t1", "must not be empty"),
        ("\t0\td1\t1", "must not be empty"),
        ("q1 0 d1 1q2 0 d2 1", "found 7"),
        ("q1\td1\t1q2\td2\t1", "found 5"),
        ("q1 d\u00a01 1", "invalid id 'd\\xa01'"),
    ],
)
def test_a_judgment_is_not_read_as_other_columns(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_qrels, tmp_path / "qrels", f"{QRELS}{line}\n")
    assert message.startswith("3: ")
    assert said in message


def test_columns_that_are_empty_between_tabs_count(tmp_path: Path) -> None:
    line = "q1\t\td1\t2\n"
    assert read(read_qrels, tmp_path / "qrels", line) == [Judgment("q1", "d1", 2)]


@pytest.mark.parametrize(
    "header", ["corpus-id\tquery-id\tscore", "docno iter qid rel", '"pid"\t"qid"\t"relevance"']
)
def test_a_header_with_the_document_first_is_refused_because_ids_may_be_alike(
    tmp_path: Path, header: str
) -> None:
    message = refusal(read_qrels, tmp_path / "qrels", f"{header}\n{QRELS}")
    assert message.startswith("1: the header names the document before the query")


@pytest.mark.parametrize("line", ["q1 0 d1 nan", "q1\td1\tinf", "q1 0 d1 yes", "q1\td1\thigh"])
def test_a_wrong_judgment_in_the_first_line_is_no_header(tmp_path: Path, line: str) -> None:
    assert refusal(read_qrels, tmp_path / "qrels", f"{line}\n{QRELS}").startswith("1: ")
