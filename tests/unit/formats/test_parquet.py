"""Parquet files of pandas and DuckDB are staged like text files, and both read what is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha512
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.cli import main
from producer.files.outputs import atomic_file
from producer.formats import parquet_records
from producer.formats.parquet import write_rows
from producer.formats.records import InvalidLines
from producer.formats.table_files import is_table
from producer.rescore import run_writers
from producer.rescore.output_files import OutputFiles
from producer.rescore.staged_query import StagedQuery
from producer.rescore.staging import Staging

Table = Callable[[str, dict[str, Sequence[Any]]], str]
SOURCE = {"model": "org/m", "revision": "abc", "downgraded": False}
LINES: list[dict[str, Any]] = [
    {"query_id": "1", "ids": ["7", "d9"], "indexes": [1, 0], "scores": [2.5, -0.1]}
    | {"metadata": [None, '{"é": [1]}'], "truncated": 0, "provenance": SOURCE},
    {"query_id": "2", "error": {"code": "E", "message": "it failed", "retryable": True}},
]


def staged(query_id: str) -> StagedQuery:
    """Return the query of `LINES` with its texts."""
    return StagedQuery(
        query_id, "what", ["d9", "7"], ["nine", "se\u00e9ven"], [None] * 2, [None] * 2
    )


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Return a function that writes a file with pandas."""

    def write(name: str, columns: dict[str, Sequence[Any]]) -> str:
        path = tmp_path / name
        pandas.DataFrame(columns).to_parquet(path, row_group_size=2)
        return str(path)

    return write


def texts(
    path: str, columns: Mapping[str, str] | None = None, *, bad: InvalidLines | None = None
) -> list[tuple[int, Any]]:
    bad = bad or InvalidLines()
    return list(parquet_records.read_texts(path, bad, 10, "corpus", columns or {}))


def refusal(path: str, columns: Mapping[str, str] | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        texts(path, columns)
    message = str(caught.value)
    del caught  # whose traceback would keep the file open until garbage is collected
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


def test_a_collection_of_pandas_and_duckdb_is_staged_like_text_files(
    table: Table, tmp_path: Path
) -> None:
    run = str(tmp_path / "run.parquet")
    duckdb.sql(
        "SELECT * FROM (VALUES (1, 'd1', 1, 2.5::FLOAT), (1, '7', 2, 1.5), (2, 'd1', 1, 0.5))"
        " t(qid, docno, rank, score)"
    ).write_parquet(run)
    queries = table("q", {"qid": [1, 2, 3], "query": ["one", "two", "three"]})
    corpus = table("c", {"docno": ["d1", "7"], "title": ["T", None], "abstract": ["a", "b"]})
    qrels = table("r", {"qid": [1, 2], "docno": ["7", "d1"], "label": [2, 0]})
    with Staging(Settings.load(), InvalidLines(), columns={"corpus.text": "abstract"}) as staging:
        staging.load_run(run, queries, corpus)
        staging.load_qrels(qrels)
        assert [
            (each.id, each.text, list(each.document_ids), list(each.texts), list(each.scores))
            for each in staging.staged_queries()
        ] == [
            ("1", "one", ["d1", "7"], ["T a", "b"], [2.5, 1.5]),
            ("2", "two", ["d1"], ["T a"], [0.5]),
        ]
        assert staging.judgments("1") == {"7": 2}
        assert staging.load_report.contradictions == 0


def test_pairs_with_their_texts_need_no_other_file(table: Table) -> None:
    pairs: dict[str, Sequence[Any]] = {
        "qid": [1, 2, 1],
        "docno": ["a", "a", "b"],
        "query": ["x", "y", "x"],
    }
    path = table("pairs", {**pairs, "text": ["A", "A", "B"]})
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(path)
        made = {each.id: list(each.document_ids) for each in staging.staged_queries()}
    assert made == {"1": ["a", "b"], "2": ["a"]}


def test_a_run_without_ranks_is_ordered_by_score(table: Table) -> None:
    path = table("run", {"query_id": ["q"] * 2, "doc_id": ["a", "b"], "score": [1, 2]})
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_run(
            path,
            table("q", {"_id": ["q"], "text": ["q"]}),
            table("c", {"_id": ["a", "b"], "text": ["a", "b"]}),
        )
        assert [list(each.document_ids) for each in staging.staged_queries()] == [["b", "a"]]
        assert staging.load_report.contradictions == 0


def test_missing_columns_are_named_with_a_way_out(table: Table) -> None:
    path = table("c", {"key": ["a"], "text": ["b"]})
    assert "no column for corpus.id; its columns are key, text;" in refusal(path)
    assert "pass --column corpus.id=COLUMN" in refusal(path)
    assert texts(path, {"corpus.id": "key"}) == [(1, ("a", "b"))]
    assert "no column other (--column corpus.id)" in refusal(path, {"corpus.id": "other"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", None], "text": ["b", "c"]}, "2: an id must be a string or a whole number"),
        ({"id": [1.0, None], "text": ["b", "c"]}, "1: an id must be a string or a whole number"),
        ({"id": ["a b"], "text": ["b"]}, "1: invalid id"),
        ({"id": ["a"], "text": [3]}, "1: the text must be a string, not"),
        ({"id": ["a"], "text": ["b" * 11]}, "1: the text of 'a' has 11 characters"),
        ({"id": ["a"], "text": [b"\xff"]}, "1: a value is not valid UTF-8"),
        ({"id": [], "text": []}, " the file is empty"),
    ],
)
def test_an_invalid_row_is_named(
    table: Table, columns: dict[str, Sequence[Any]], message: str
) -> None:
    found = refusal(table("c", columns))
    assert found.replace('"', "'").startswith(message)


def test_invalid_rows_can_be_skipped_and_nulls_are_empty_texts(table: Table) -> None:
    bad = InvalidLines(skip=True)
    path = table("c", {"id": ["a", None, "c"], "text": [None, "b", "c"]})
    assert texts(path, bad=bad) == [(1, ("a", "")), (3, ("c", "c"))]
    assert bad.count == 1


def test_binary_columns_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "c"
    columns = {"id": [b"a"], "text": ["é".encode()]}
    parquet.write_table(pyarrow.table(columns), path)
    assert texts(str(path)) == [(1, ("a", "é"))]


def test_an_incomplete_file_is_refused(table: Table) -> None:
    path = Path(table("c", {"id": ["a"] * 50, "text": ["b"] * 50}))
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with (
        Staging(Settings.load(), InvalidLines()) as staging,
        pytest.raises(InvalidInput, match="this is a Parquet file; pass a complete"),
    ):
        staging.load_requests(str(path))
    path.write_bytes(content[:60] + content[90:])
    assert "the file cannot be read after row 0" in refusal(str(path))


def test_both_libraries_read_a_run_and_its_results(tmp_path: Path) -> None:
    run, results = str(tmp_path / "run.parquet"), str(tmp_path / "results.parquet")
    with atomic_file(run) as file:
        run_writers.FORMATS[run_writers.format_of(run, None)].write(file, iter(LINES), staged)
    with atomic_file(results) as file:
        run_writers.write_results_parquet(file, iter(LINES))
    assert duckdb.read_parquet(run).fetchall() == [
        ("1", "7", 1, 2.5, "rerankq-m"),
        ("1", "d9", 2, -0.1, "rerankq-m"),
    ]
    frame = pandas.read_parquet(results)
    assert list(frame.columns) == list(run_writers.RESULT_COLUMNS)
    assert list(frame["index"].dropna()) == [1, 0]
    assert frame["metadata"].dropna().tolist() == ['{"é": [1]}']
    assert frame["error_code"].dropna().tolist() == ["E"]
    assert [line.query_id for _, line in parquet_records.read_run(run, InvalidLines(), {})] == [
        "1",
        "1",
    ]
    # Spark reads no large strings, and INT96 and unsigned numbers only with care.
    kinds = {each.physical_type for each in parquet.ParquetFile(results).schema}
    assert kinds == {"BYTE_ARRAY", "INT32", "DOUBLE", "BOOLEAN"}


def test_the_format_is_chosen_by_option_or_name(tmp_path: Path) -> None:
    assert run_writers.format_of("run.parquet", None) == "parquet"
    assert run_writers.format_of("run.parquet", "trec") == "trec"
    assert run_writers.format_of("-", None) == "trec"
    with atomic_file(str(tmp_path / "run")) as file:
        run_writers.FORMATS["msmarco"].write(file, LINES, staged)
    assert (tmp_path / "run").read_text() == "1\t7\t1\n1\td9\t2\n"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path, rows = str(tmp_path / "large"), 80_000
    columns = {"id": range(rows), "text": [sha512(b"%d" % n).hexdigest() for n in range(rows)]}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)
    before = pyarrow.total_allocated_bytes()
    most = 0
    for number, _ in parquet_records.read_texts(path, InvalidLines(), 200, "corpus", {}):
        if number % 1000 == 0:
            most = max(most, pyarrow.total_allocated_bytes() - before)
    assert number == rows
    assert most < 6 * 2**20 < Path(path).stat().st_size


def test_a_folder_of_files_is_read_in_the_order_of_their_names(
    table: Table, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    assert "this is a directory" in read_as_text(tmp_path / "corpus")
    for name in ("part-10", "part-2", "part-1"):
        table(f"corpus/{name}.snappy.parquet", {"id": [name], "text": ["t"]})
    for ignored in ("_SUCCESS", ".part-0.parquet", "_part-0.parquet"):
        (tmp_path / "corpus" / ignored).touch()
    path = str(tmp_path / "corpus")
    assert is_table(path)
    assert [each.id for _, each in texts(path)] == ["part-1", "part-10", "part-2"]
    assert [number for number, _ in texts(path)] == [1, 2, 3]
    duckdb.from_df(pandas.DataFrame({"id": ["d"], "body": ["t"]})).write_parquet(
        f"{path}/x.parquet"
    )
    with pytest.raises(InvalidInput, match=r"x\.parquet: there is no column text, which"):
        texts(path)
    Path(f"{path}/x.parquet").write_bytes(b"PAR1")
    assert "the file cannot be read after row 3" in refusal(path)


def read_as_text(path: Path) -> str:
    with (
        Staging(Settings.load(), InvalidLines()) as staging,
        pytest.raises(InvalidInput) as caught,
    ):
        staging.load_requests(str(path))
    return str(caught.value)


def test_rows_are_written_in_several_groups(tmp_path: Path) -> None:
    path = str(tmp_path / "groups")
    with atomic_file(path) as file:
        write_rows(file, {"n": "int32"}, ((number,) for number in range(70_000)))
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert duckdb.read_parquet(path).sum("n").fetchall() == [(sum(range(70_000)),)]


def test_without_pyarrow_the_message_names_the_extra(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table("c", {"id": ["a"], "text": ["b"]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'rerankq[parquet]'" in refusal(path)
    with pytest.raises(InvalidInput, match="pip install"):
        OutputFiles(f"{path}.parquet").check([])
    with pytest.raises(InvalidInput, match="pip install"):
        OutputFiles(f"{path}.trec", f"{path}.parquet").check([])


def test_an_unknown_name_of_a_column_is_refused() -> None:
    result = CliRunner().invoke(main, ["rescore", "--column", "text=abstract"])
    assert result.exit_code == 2
    assert "NAME is one of corpus.id, corpus.text" in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("chosen", "file"), [("--column=corpus.text=abstract", "c"), ("--input-format=run=trec", "r")]
)
def test_a_choice_that_has_no_effect_on_a_file_is_refused(
    table: Table, tmp_path: Path, chosen: str, file: str
) -> None:
    (tmp_path / "c").write_text('{"_id": "d", "text": "a", "abstract": "b"}\n')
    (tmp_path / "q").write_text("1\twhat\n")
    table("r", {"qid": ["1"], "docid": ["d"], "score": [1.0]})
    files = [f"--{each}={tmp_path / each[0]}" for each in ("corpus", "queries", "run")]

    result = CliRunner().invoke(main, ["rescore", *files, "--dry-run", chosen])

    assert result.exit_code == 2
    assert f"{tmp_path / file}: {chosen.replace('=', ' ', 1).rpartition('=')[0]}" in result.output
    assert "has no effect" in result.output


def test_the_page_about_files_names_each_format_and_column() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/files.md").read_text()
    for name, each in run_writers.FORMATS.items():
        assert f"| `{name}` | {each.description} |" in page
    for name in parquet_records.NAMES:
        assert f"`{name}`" in page
