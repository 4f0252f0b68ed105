"""Runs are read as tools write them, and no column is taken for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.formats.run_line import RunLine
from producer.formats.trec_run import read_run
from tests.unit.formats.samples import (
    RUN,
    read,
    refusal,
)


@pytest.mark.parametrize(
    "line",
    [
        "q1 Q0 d1 3 -2.5 tag",
        "q1\tQ0\td1\t3\t-2.5\ttag",
        "  q1   Q0\t\td1 \t 3  -25e-1\t tag  ",
        "q1 Q0 d1 3 -2.5",
        "q1 0 d1 3.0 -2.5 a tag of words",
        "q1 0 d1 3 -2.5 2024 0.9 tag 0",
        "q1\tQ0\td1\t3\t-2.5\ta tag\tof words",
        "q1\tQ0\td1\t3\t-2.5\t",
        "q1\tQ0\td1\t3\t-2.5",
    ],
)
def test_a_run_is_split_at_spaces_and_tabs(tmp_path: Path, line: str) -> None:
    assert read(read_run, tmp_path / "run", f"{line}\n") == [RunLine("q1", "d1", 3, -2.5)]


@pytest.mark.parametrize("score", ["nan", "NaN", "inf", "-Infinity", "1e999", "high", "1,5"])
def test_a_run_with_a_nan_score_is_refused_with_file_and_line(tmp_path: Path, score: str) -> None:
    message = refusal(read_run, tmp_path / "run", f"{RUN}q2 Q0 d1 1 {score} tag\n")
    assert message.startswith("3: the score ")


@pytest.mark.parametrize("number", [3, 3.5, -3])
def test_a_tag_may_be_a_number_where_no_id_can_hold_white_space(
    tmp_path: Path, number: float
) -> None:
    line = f"q1\tQ0\td1\t3\t-2\t{number} tag\n"
    assert read(read_run, tmp_path / "run", line) == [RunLine("q1", "d1", 3, -2)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        # Two records without the line break between them
        ("q1 Q0 d1 1 2.5 tagq1 Q0 d2 2 1.5 tag", "a second record, starting at 'tagq1'"),
        ("q1 Q0 d1 1 2.5 my tagq1 Q0 d2 2 1.5 my tag", "starting at 'tagq1'"),
        ("q1 Q0 d1 1 2.5 tag q1 Q0 d2 2 1.5", "a second record"),
        ("q1 0 d1 1 2.5 tagq1 0 d2 2 1.5 tag", "a second record"),
        ("q1\tQ0\td1\t1\t2.5\ttagq1\tQ0\td2\t2\t1.5\ttag", "a second record"),
        ("q1 Q0 d1 1 2.5 tag\rq1 Q0 d2 2 1.5 tag", "a second record"),
        ("q1 Q0 d1 1 2.5 tagq1 Q0", "a second record"),
        ("q1 Q0 d1 1 2.5q1 Q0 d2 2 1.5", "the score '2.5q1' is not a number"),
        # White space in an id
        ("q1\tQ0\td 1\t1\t2.5\ttag", "invalid id 'd 1'"),
        ("q 1\tQ0\td1\t1\t2.5\ttag", "invalid id 'q 1'"),
        ("q1\tQ0\td 1\t1\t2.5", "invalid id 'd 1'"),
        ("q1\tQ0\t\t1\t2.5\ttag", "must not be empty"),
        ("q1\tQ0\td 1\t1\t2.5\ta\ttag", "invalid id 'd 1'"),
        ("q1 Q0 d 1 1 2.5 tag", "an id may contain white space"),
        ("q1 Q0 d 1 1 2.5", "an id may contain white space"),
        ("q 1 Q0 7 1 2.5 tag", "an id may contain white space"),
        (
            "q1 Q0 New York 1 2.5 tag",
            "the rank 'York' is not a number; an id may contain white space",
        ),
        ("q1 Q0 d\u00a01 1 2.5 tag", "invalid id 'd\\xa01'"),
        ("q1 Q0 d\x0b1 1 2.5 tag", "invalid id 'd\\x0b1'"),
        ("q1 Q0 d\u20281 1 2.5 tag", "invalid id 'd\\u20281'"),
    ],
)
def test_a_run_line_is_not_read_as_other_columns(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_run, tmp_path / "run", f"{RUN}{line}\n")
    assert message.startswith("3: ")
    assert said in message


def test_a_header_of_a_run_is_no_line_of_it(tmp_path: Path) -> None:
    content = f"qid\tQ0\tdocno\trank\tscore\ttag\n{RUN}"
    assert len(read(read_run, tmp_path / "run", content)) == 2


@pytest.mark.parametrize("header", ["docno Q0 qid rank score tag", "pid\tqid\trank"])
def test_a_header_with_the_document_first_is_refused(tmp_path: Path, header: str) -> None:
    message = refusal(read_run, tmp_path / "run", f"{header}\n{RUN}")
    assert message.startswith("1: the header names the document before the query")


@pytest.mark.parametrize("line", ["q1 Q0 d1 1", "q1", "q1 Q0 d1 first 2.5 tag", "q1 Q0 d1 nan 2 t"])
def test_a_run_line_without_its_columns_is_refused(tmp_path: Path, line: str) -> None:
    assert refusal(read_run, tmp_path / "run", f"{RUN}{line}\n").startswith("3: ")
