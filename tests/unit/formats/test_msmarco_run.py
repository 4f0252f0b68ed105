"""MS MARCO's runs of three columns are read in the order of their ranks, and qrels are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.outputs import atomic_file
from producer.formats.records import InvalidLines
from producer.formats.run_line import RunLine
from producer.formats.trec_run import read_run
from producer.rescore import run_writers
from producer.rescore.staging import Staging
from tests.unit.formats.samples import read, refusal

RUN = "1\td7\t1\n1\td9\t2\n2\td7\t1\n"
RECORDS = [
    RunLine("1", "d7", 1, -1.0),
    RunLine("1", "d9", 2, -2.0),
    RunLine("2", "d7", 1, -1.0),
]


@pytest.mark.parametrize("text", [RUN, RUN.replace("\t", " "), f"qid\tpid\trank\r\n{RUN}"])
def test_the_score_is_the_negative_rank(tmp_path: Path, text: str) -> None:
    assert read(read_run, tmp_path / "run", text) == RECORDS


def test_what_is_written_is_read(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"query_id": "1", "ids": ["d7", "d9"], "scores": [2.5, -0.1]},
        {"query_id": "2", "ids": ["d7"], "scores": [0.5]},
    ]
    with (
        Staging(Settings.load(), InvalidLines()) as staging,
        atomic_file(str(tmp_path / "run")) as file,
    ):
        run_writers.FORMATS["msmarco"].write(file, lines, staging.staged_query)
    assert (tmp_path / "run").read_text() == RUN
    assert [each for _, each in read_run(str(tmp_path / "run"), InvalidLines())] == RECORDS


def test_it_is_staged_by_rank(tmp_path: Path) -> None:
    files = {"run": "1 d9 2\n1 d7 1\n", "queries": "1\tone\n", "corpus": "d7\ta\nd9\tb\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_run(*(str(tmp_path / name) for name in files))
        assert [list(each.document_ids) for each in staging.staged_queries()] == [["d7", "d9"]]
        assert staging.load_report.contradictions == 0


def test_a_run_that_may_be_qrels_is_read_if_the_user_says_that_it_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("1\td7\t1\n2\td7\t1\n2\td9\t1\n")
    records = read_run(str(tmp_path / "run"), InvalidLines(), "msmarco")
    assert [each.document_id for _, each in records] == ["d7", "d7", "d9"]
    with pytest.raises(InvalidInput, match="1: expected a TREC run with 6 columns"):
        list(read_run(str(tmp_path / "run"), InvalidLines(), "trec"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q1 d1 1\nq1 d2 1\n", "2: query 'q1' has rank 1 twice, as in qrels"),
        ("q1 d1 1\nq2 d2 1\n", "no two lines in a row have the same query"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\n", "looks like qrels"),
        ("1 d9 x\n", "1: expected a TREC run with 6 columns"),
        (f"{RUN}2\td9\tx\n", "4: the rank 'x' is not a number"),
        (f"{RUN}2\td9\t-2\n", "4: the rank is -2"),
        (f"{RUN}2\td9\t2.5\n", "4: the rank '2.5' is not a whole number"),
        (f"{RUN}2 Q0 d9 2 1.5 tag\n", "4: expected MS MARCO's 3 columns (query document rank)"),
        ("1 Q0 d7 1 2.5 t\n1 d9 2\n", "2: expected a TREC run with 6 columns"),
    ],
)
def test_qrels_and_invalid_lines_are_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(read_run, tmp_path / "run", text)
