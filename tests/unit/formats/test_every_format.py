"""Each row of the table of formats is a file that another library has written or reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract.results import relevance
from contract.settings import Settings
from producer.files.outputs import atomic_file
from producer.formats.documents import read_documents
from producer.formats.records import InvalidLines
from producer.rescore import journal_lines, run_writers
from producer.rescore.input_files import InputFiles
from producer.rescore.staged_query import StagedQuery
from producer.rescore.staging import Staging
from tests.unit.formats import peers
from tests.unit.formats.peers import CORPUS, PAIRS, QRELS, QUERIES, RUN

PAGE = Path(__file__).parents[3] / "docs/reference/files.md"
#: The cells of a row, and one of the libraries that its last cell names.
Case = tuple[str, str, str]
BOTH = "`--corpus`, `--queries`"
PARQUET = {"pandas": peers.parquet_of_pandas, "DuckDB": peers.parquet_of_duckdb}
FOLDER = {"datasets": peers.folder_of_datasets}


def of_tables(option: str, use: Callable[[peers.TableWriter], Any]) -> dict[Case, Any]:
    """Return what `use` makes of each writer of tables."""
    return {
        (option, name, peer): use(write)
        for name, writers in (("Parquet", PARQUET), ("folder of Hugging Face's `datasets`", FOLDER))
        for peer, write in writers.items()
    }


def of_rows(rows: Any, *names: str) -> Callable[[peers.TableWriter], Any]:
    """Return a function that makes a writer of these rows from a writer of tables."""
    return lambda write: lambda path: write(path, peers.columns_of(rows, *names))


TEXTS: dict[Case, peers.TextWriter] = {
    (BOTH, "BEIR's JSONL: `_id`, `title`, `text`", "ir_datasets"): peers.beir,
    (BOTH, "Pyserini's JSONL: `id`, `contents`", "DuckDB"): peers.of_texts(
        peers.json_of_duckdb, "id", "contents"
    ),
    (BOTH, "MS MARCO's `collection.tsv` and `queries.tsv`", "ir_datasets"): (
        peers.msmarco_collection
    ),
    ("`--corpus`", "MS MARCO's `docs.tsv`", "ir_datasets"): peers.msmarco_documents,
    (BOTH, "tab-separated columns with a header", "pandas"): peers.of_texts(peers.tsv_of_pandas),
    **of_tables(BOTH, peers.of_texts),
}
RUNS: dict[Case, Callable[[Path], object]] = {
    ("`--run`", "TREC", "ir_measures"): peers.trec_run,
    ("`--run`", "MS MARCO: `query document rank`", "pandas"): peers.msmarco_run,
    **of_tables("`--run`", of_rows(RUN, "qid", "docno", "score")),
}
JUDGMENTS: dict[Case, Callable[[Path], object]] = {
    ("`--qrels`", "TREC, and MS MARCO's `qrels`", "ir_datasets"): peers.qrels_of_ir_datasets,
    ("`--qrels`", "TREC, and MS MARCO's `qrels`", "ir_measures"): peers.qrels_of_ir_measures,
    ("`--qrels`", "BEIR's TSV", "pandas"): of_rows(QRELS, "query-id", "corpus-id", "score")(
        peers.tsv_of_pandas
    ),
    **of_tables("`--qrels`", of_rows(QRELS, "query_id", "doc_id", "relevance")),
}
REQUESTS: dict[Case, Callable[[Path], object]] = {
    ("`--input`", "rerankq's JSONL", "DuckDB"): peers.requests_of_duckdb,
    ("`--input`", "rank_llm's JSON array", "rank_llm"): partial(
        peers.requests_of_rank_llm, method="write_in_json_format"
    ),
    ("`--input`", "rank_llm's JSONL", "rank_llm"): partial(
        peers.requests_of_rank_llm, method="write_in_jsonl_format"
    ),
    ("`--input`", "JSONL with the requests of Cohere, TEI or NVIDIA", "cohere"): (
        peers.requests_of_cohere
    ),
    ("`--input`", "lines of batch files", "cohere"): peers.batch_of_cohere,
    ("`--input`", "MS MARCO's `top1000.dev`", "ir_datasets"): peers.top1000,
    **of_tables("`--input`", of_rows(PAIRS, "qid", "query", "docno", "text")),
}
DOCUMENTS: dict[Case, peers.TextWriter] = {
    ("`--documents`", "JSONL, or a text per line", "DuckDB"): peers.of_texts(
        peers.json_of_duckdb, "id", "text"
    )
}
DATASETS = {("`--dataset`", "dataset of ir_datasets", "ir_datasets"): peers.dataset}
OUTPUTS: dict[Case, Callable[[Path], peers.Ranked]] = {
    ("`--output`", "TREC (`trec`)", "ir_measures"): peers.run_in_ir_measures,
    ("`--output`", "MS MARCO (`msmarco`)", "pandas"): peers.msmarco_in_pandas,
    ("`--output`", "Parquet (`parquet`)", "pandas"): peers.parquet_in_pandas,
    ("`--output`", "Parquet (`parquet`)", "DuckDB"): peers.parquet_in_duckdb,
    ("`--output`", "rank_llm's JSON array (`rank_llm`)", "rank_llm"): peers.run_in_rank_llm,
    ("`--output`", "answers of batch files (`batch`)", "cohere"): peers.answers_in_cohere,
    ("`--results`", "JSONL", "DuckDB"): peers.results_in_duckdb,
    ("`--results`", "Parquet", "pandas"): peers.parquet_in_pandas,
    ("`--results`", "Parquet", "DuckDB"): peers.parquet_in_duckdb,
}


def named(cases: Iterable[Case]) -> list[str]:
    """Return a name for each test."""
    return [f"{option.strip('`-')} {name} {peer}" for option, name, peer in cases]


def test_the_table_has_what_is_tested_here() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `--")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    table = [(*row[:2], peer) for row in rows if len(row) == 4 for peer in row[3].split(", ")]
    inputs: tuple[dict[Case, Any], ...] = (TEXTS, RUNS, JUDGMENTS, REQUESTS, DOCUMENTS, DATASETS)
    assert table == [case for kind in (*inputs, OUTPUTS) for case in kind]
    of_output = [name for option, name, _ in OUTPUTS if option == "`--output`"]
    assert all(any(f"(`{name}`)" in each for each in of_output) for name in run_writers.FORMATS)


def staged(inputs: InputFiles) -> list[tuple[str, str, str, str]]:
    """Return the pairs of the collection, and check the judgments if there are any."""
    inputs.check()
    with Staging(Settings.load(), InvalidLines()) as staging:
        inputs.load(staging)
        if inputs.qrels:
            assert staging.judgments("1") == {"12": 2}
        return [
            (each.id, each.text, document, text)
            for each in staging.staged_queries()
            for document, text in zip(each.document_ids, each.texts, strict=True)
        ]


@pytest.fixture
def plain(tmp_path: Path) -> InputFiles:
    """Return files with the collection, whose places a test's own file can take."""
    peers.msmarco_collection(tmp_path / "plain-corpus", CORPUS)
    peers.msmarco_collection(tmp_path / "plain-queries", QUERIES)
    peers.trec_run(tmp_path / "plain-run")
    corpus, queries, run = (
        str(tmp_path / f"plain-{name}") for name in ("corpus", "queries", "run")
    )
    return InputFiles(corpus, queries, run)


def with_file(inputs: InputFiles, **files: Path) -> list[tuple[str, str, str, str]]:
    changes: dict[str, Any] = {option: str(path) for option, path in files.items()}
    return staged(replace(inputs, **changes))


@pytest.mark.parametrize(("case", "write"), TEXTS.items(), ids=named(TEXTS))
def test_texts_are_read(
    tmp_path: Path, plain: InputFiles, case: Case, write: peers.TextWriter
) -> None:
    files = {"corpus": CORPUS} | ({"queries": QUERIES} if case[0] == BOTH else {})
    for option, texts in files.items():
        write(tmp_path / option, texts)
    assert with_file(plain, **{option: tmp_path / option for option in files}) == PAIRS


@pytest.mark.parametrize(
    ("option", "write"),
    [
        *(("run", write) for write in RUNS.values()),
        *(("qrels", write) for write in JUDGMENTS.values()),
    ],
    ids=named((*RUNS, *JUDGMENTS)),
)
def test_a_run_and_judgments_are_read(
    tmp_path: Path, plain: InputFiles, option: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / option)
    assert with_file(plain, **{option: tmp_path / option}) == PAIRS


@pytest.mark.parametrize(("case", "write"), REQUESTS.items(), ids=named(REQUESTS))
def test_requests_are_read(tmp_path: Path, case: Case, write: Callable[[Path], object]) -> None:
    write(tmp_path / "requests")
    found = staged(InputFiles(requests=str(tmp_path / "requests")))
    if case[2] == "cohere":  # the ids of documents are their places
        assert [document for _, _, document, _ in found] == ["0", "1", "0"]
        places = [(query_id, query, text) for query_id, query, _, text in PAIRS]
        assert [(query_id, query, text) for query_id, query, _, text in found] == places
    else:
        assert found == PAIRS


def test_the_files_of_ms_marco_are_read_as_windows_writes_them(
    tmp_path: Path, plain: InputFiles
) -> None:
    def write(name: str, writer: Callable[..., object], *texts: peers.Texts) -> Path:
        path = tmp_path / name
        writer(path, *texts)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        return path

    files = {
        "corpus": write("collection.tsv", peers.msmarco_collection, CORPUS),
        "queries": write("queries.tsv", peers.msmarco_collection, QUERIES),
        "run": write("run.tsv", peers.msmarco_run),
        "qrels": write("qrels.tsv", peers.qrels_of_ir_datasets),
    }
    assert with_file(plain, **files) == PAIRS
    documents = write("docs.tsv", peers.msmarco_documents, CORPUS)
    assert with_file(plain, corpus=documents) == PAIRS
    requests = write("top1000.dev", peers.top1000)
    assert staged(InputFiles(requests=str(requests))) == PAIRS


@pytest.mark.parametrize("write", DOCUMENTS.values(), ids=named(DOCUMENTS))
def test_documents_are_read(tmp_path: Path, write: peers.TextWriter) -> None:
    write(tmp_path / "documents", CORPUS)
    found = read_documents(str(tmp_path / "documents"))
    assert found == [{"id": id_, "text": text} for id_, text in CORPUS.items()]
    (tmp_path / "documents").write_text("".join(f"{text}\n" for text in CORPUS.values()))
    assert read_documents(str(tmp_path / "documents")) == list(CORPUS.values())


def test_a_dataset_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    peers.dataset(tmp_path, "rerankq-tests/table")
    assert staged(InputFiles().with_dataset("rerankq-tests/table")) == PAIRS


SOURCE = {"model": "org/m", "revision": "abc", "downgraded": False}
LINES: list[dict[str, Any]] = [
    {"query_id": "1", "ids": ["12", "11"], "indexes": [1, 0], "scores": [2.5, -0.1]}
    | {"truncated": 0, "provenance": SOURCE},
    {"query_id": "2", "error": {"code": "E", "message": "it failed", "retryable": True}},
]
SCORES: peers.Ranked = [("1", "12", 2.5), ("1", "11", -0.1)]


def staged_query(query_id: str) -> StagedQuery:
    texts = [CORPUS["11"], CORPUS["12"]]
    return StagedQuery(query_id, QUERIES[query_id], ["11", "12"], texts, [None] * 2, [None] * 2)


@pytest.mark.parametrize(("case", "read"), OUTPUTS.items(), ids=named(OUTPUTS))
def test_outputs_are_what_others_read(
    tmp_path: Path, case: Case, read: Callable[[Path], peers.Ranked]
) -> None:
    option, name, _ = case
    path = tmp_path / "out.json"  # rank_llm reads only files with this ending
    format_name = name.rpartition("(`")[2].removesuffix("`)")
    with atomic_file(str(path)) as file:
        if option == "`--output`":
            run_writers.FORMATS[format_name].write(file, LINES, staged_query)
        elif name == "Parquet":
            run_writers.write_results_parquet(file, LINES)
        else:
            file.writelines(map(journal_lines.result_line, LINES))
    values = {
        "msmarco": [("1", "12", 1), ("1", "11", 2)],
        "batch": [(query, document, relevance(score)) for query, document, score in SCORES],
    }
    assert read(path) == values.get(format_name, SCORES)
