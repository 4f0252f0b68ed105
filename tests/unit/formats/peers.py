"""Small files that other libraries write or read, and what they find in the files of rerankq."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import cohere
import datasets
import duckdb
import httpx
import ir_datasets
import ir_measures
import pandas
from ir_datasets.datasets.beir import BeirTitleDoc
from ir_datasets.datasets.msmarco_document import MsMarcoDocument
from ir_datasets.datasets.msmarco_passage import ExtractQidPid
from ir_datasets.formats import JsonlDocs, TrecQrels, TrecScoredDocs, TsvDocs
from ir_datasets.util import LocalDownload

QUERIES = {"1": "the first question", "2": 'a "quoted" Frage\u2028für alle'}
CORPUS = {"11": "One text of two", "12": 'Zwölf "quoted" words', "13": '"Unused", as all know'}
RUN = [("1", "12", 2.5), ("1", "11", 1.5), ("2", "11", 0.5)]
QRELS = [("1", "12", 2), ("2", "11", 0)]
#: The queries with their documents, in the order of their scores.
PAIRS = [(query, QUERIES[query], document, CORPUS[document]) for query, document, _ in RUN]

Texts = dict[str, str]
Columns = dict[str, Sequence[Any]]


def columns_of(rows: Sequence[tuple[Any, ...]], *names: str) -> Columns:
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def write_lines(path: Path, rows: Sequence[Sequence[Any]], between: str = "\t") -> None:
    path.write_text("".join(between.join(map(str, row)) + "\n" for row in rows))


def write_jsonl(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


# Tables

TableWriter = Callable[[Path, Columns], object]


def parquet_of_pandas(path: Path, columns: Columns) -> None:
    pandas.DataFrame(columns).to_parquet(path)


def parquet_of_duckdb(path: Path, columns: Columns) -> None:
    duckdb.from_df(pandas.DataFrame(columns)).write_parquet(str(path))


def folder_of_datasets(path: Path, columns: Columns) -> None:
    datasets.Dataset.from_dict({name: list(each) for name, each in columns.items()}).save_to_disk(
        str(path)
    )


def json_of_duckdb(path: Path, columns: Columns) -> None:
    duckdb.from_df(pandas.DataFrame(columns)).query("t", f"COPY t TO '{path}' (FORMAT json)")


def tsv_of_pandas(path: Path, columns: Columns) -> None:
    pandas.DataFrame(columns).to_csv(path, sep="\t", index=False)


# Texts, with titles where the format has them

TextWriter = Callable[[Path, Texts], object]


def of_texts(write: TableWriter, id_: str = "_id", text: str = "text") -> TextWriter:
    return lambda path, texts: write(path, columns_of(list(texts.items()), id_, text))


def beir(path: Path, texts: Texts) -> None:
    titled = [(id_, *text.split(" ", 1)) for id_, text in texts.items()]
    write_jsonl(path, [{"_id": id_, "title": title, "text": text} for id_, title, text in titled])
    keys = {"doc_id": "_id", "text": "text", "title": "title"}
    found = JsonlDocs(LocalDownload(path), BeirTitleDoc, mapping=keys).docs_iter()
    assert {each.doc_id: each.default_text() for each in found} == texts


def msmarco_collection(path: Path, texts: Texts) -> None:
    write_lines(path, list(texts.items()))
    assert dict(TsvDocs(LocalDownload(path)).docs_iter()) == texts


def msmarco_documents(path: Path, texts: Texts) -> None:
    titled = [(id_, f"https://host/{id_}", *text.split(" ", 1)) for id_, text in texts.items()]
    write_lines(path, titled)
    found = TsvDocs(LocalDownload(path), MsMarcoDocument).docs_iter()
    assert {each.doc_id: each.default_text() for each in found} == texts


# Runs and judgments


def trec_run(path: Path) -> None:
    write_lines(path, [(query, "Q0", document, 0, score, "t") for query, document, score in RUN])
    assert [tuple(each) for each in ir_measures.read_trec_run(str(path))] == RUN


def msmarco_run(path: Path) -> None:
    rows = [("1", "12", 1), ("1", "11", 2), ("2", "11", 1)]
    pandas.DataFrame(rows).to_csv(path, sep="\t", header=False, index=False)


def qrels_of_ir_datasets(path: Path) -> None:
    write_lines(path, [(query, 0, document, relevance) for query, document, relevance in QRELS])
    found = TrecQrels(LocalDownload(path), {}).qrels_iter()
    assert [(each.query_id, each.doc_id, each.relevance) for each in found] == QRELS


def qrels_of_ir_measures(path: Path) -> None:
    write_lines(
        path, [(query, 0, document, relevance) for query, document, relevance in QRELS], " "
    )
    found = ir_measures.read_trec_qrels(str(path))
    assert [(each.query_id, each.doc_id, each.relevance) for each in found] == QRELS


# Queries with their documents


def requests_of_duckdb(path: Path) -> None:
    pairs = pandas.DataFrame(columns_of(PAIRS, "query_id", "query", "id", "text"))
    requests = duckdb.from_df(pairs).query(
        "pairs",
        "SELECT query_id, query, list({'id': id, 'text': text}) AS candidates FROM pairs"
        " GROUP BY ALL ORDER BY query_id",
    )
    requests.query("requests", f"COPY requests TO '{path}' (FORMAT json)")


def top1000(path: Path) -> None:
    write_lines(path, [(query_id, id_, query, text) for query_id, query, id_, text in PAIRS])
    found = ExtractQidPid(LocalDownload(path)).stream().read().decode()
    assert found == "".join(f"{query}\t{document}\n" for query, document, _ in RUN)


def _bodies() -> list[Any]:
    """Return the requests that Cohere's client sends, one for each query."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"id": "1", "results": []})

    with httpx.Client(transport=httpx.MockTransport(answer)) as web:
        client = cohere.ClientV2("key", httpx_client=web, base_url="http://host")
        for query_id, query in QUERIES.items():
            documents = [text for id_, _, _, text in PAIRS if id_ == query_id]
            client.rerank(model="m", query=query, documents=documents, max_tokens_per_doc=512)
    return sent


def requests_of_cohere(path: Path) -> None:
    first, second = _bodies()
    # The second one as TEI has it.
    write_jsonl(path, [first, {"query": second["query"], "texts": second["documents"]}])


def batch_of_cohere(path: Path) -> None:
    lines = zip(QUERIES, _bodies(), strict=True)
    rest = {"method": "POST", "url": "/v2/rerank"}
    write_jsonl(
        path, [{"custom_id": id_, "body": body | {"top_n": 1}, **rest} for id_, body in lines]
    )


def _rank_llm() -> Any:
    """Return the module of rank_llm that reads and writes files: see the Makefile."""
    name = "rank_llm.data"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(sys.prefix) / "peers/rank_llm/data.py")
        assert spec
        assert spec.loader
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def requests_of_rank_llm(path: Path, method: str) -> None:
    module = _rank_llm()
    requests = [
        module.Request(
            module.Query(text, query),
            [
                module.Candidate(document, score, {"contents": CORPUS[document]})
                for query_, document, score in RUN
                if query_ == query
            ],
        )
        for query, text in QUERIES.items()
    ]
    getattr(module.DataWriter(requests), method)(str(path))


# Outputs: their queries, documents, and a rank or a score

Ranked = list[tuple[str, str, float]]


def run_in_ir_measures(path: Path) -> Ranked:
    return [tuple(each) for each in ir_measures.read_trec_run(str(path))]


def msmarco_in_pandas(path: Path) -> Ranked:
    # As MS MARCO's evaluation: tabs alone, and whole numbers in all three columns.
    frame = pandas.read_csv(path, sep="\t", header=None, dtype=int)
    return [(str(query), str(document), rank) for query, document, rank in frame.to_numpy()]


_COLUMNS = ["query_id", "document_id", "score"]


def parquet_in_pandas(path: Path) -> Ranked:
    frame = pandas.read_parquet(path, columns=_COLUMNS).dropna()
    return [tuple(row) for row in frame.itertuples(index=False)]


def parquet_in_duckdb(path: Path) -> Ranked:
    found = duckdb.read_parquet(str(path)).filter("score IS NOT NULL")
    return list(found.select(*_COLUMNS).fetchall())


def run_in_rank_llm(path: Path) -> Ranked:
    return [
        (request.query.qid, each.docid, each.score)
        for request in _rank_llm().read_requests_from_file(str(path))
        for each in request.candidates
    ]


def results_in_duckdb(path: Path) -> Ranked:
    rows = duckdb.read_json(str(path)).query(
        "lines",
        "SELECT query_id, each.id, each.score FROM lines, unnest(documents) t(each)"
        " WHERE error IS NULL ORDER BY query_id, each.rank",
    )
    return list(rows.fetchall())


def answers_in_cohere(path: Path) -> Ranked:
    lines = map(json.loads, path.read_text().splitlines())
    return [
        (line["custom_id"], each.document.id, each.relevance_score)
        for line in lines
        if line["error"] is None
        for each in cohere.RerankResponse(**line["response"]["body"]).results
    ]


# Datasets


def dataset(folder: Path, name: str) -> None:
    """Register a dataset of ir_datasets whose parts are files here."""
    msmarco_collection(folder / "docs", CORPUS)
    write_lines(folder / "queries", list(QUERIES.items()))
    qrels_of_ir_datasets(folder / "qrels")
    trec_run(folder / "run")
    parts = ir_datasets.create_dataset(
        *(str(folder / part) for part in ("docs", "queries", "qrels"))
    )
    scored = TrecScoredDocs(LocalDownload(folder / "run"))
    ir_datasets.registry.register(name, ir_datasets.datasets.base.Dataset(parts, scored))
