"""Write finished rankings in each format that `--format` names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from pydantic_core import to_json

from contract.results import relevance
from producer.formats import batch_lines
from producer.formats.parquet import write_rows
from producer.rescore import journal_lines
from producer.rescore.journal_lines import CASCADE
from producer.rescore.staged_query import StagedQuery

#: Parsed lines of the journal.
Lines = Iterable[dict[str, Any]]
#: Returns the texts of the query with an id, for formats that have them.
Staged = Callable[[str], StagedQuery]

#: The columns of `--output` in Parquet, with types that pandas, DuckDB and Spark read.
RUN_COLUMNS = {
    "query_id": "string",
    "document_id": "string",
    "rank": "int32",
    "score": "double",
    "tag": "string",
}
#: The columns of `--results` in Parquet: a row for each document, or one with the error of a query.
RESULT_COLUMNS = {
    "query_id": "string",
    "document_id": "string",
    "rank": "int32",
    "score": "double",
    "relevance": "double",
    "index": "int32",
    "passage_index": "int32",
    "passage_begin": "int32",
    "passage_end": "int32",
    "passage_count": "int32",
    "metadata": "string",
    "model": "string",
    "revision": "string",
    "downgraded": "bool",
    "error_code": "string",
    "error_message": "string",
}


class RunFormat(NamedTuple):
    """A format of `--output`."""

    description: str
    write: Callable[[IO[bytes], Lines, Staged], None]
    #: The end of the names of its files.
    suffix: str | None = None


def format_of(output: str, chosen: str | None) -> str:
    """Return the chosen format of `--output`, else the one that its name ends with."""
    if chosen:
        return chosen
    named = (name for name, each in FORMATS.items() if each.suffix and output.endswith(each.suffix))
    return next(named, "trec")


def is_parquet_name(name: str) -> bool:
    """Return whether a file is written as Parquet because of its name."""
    return name.endswith(".parquet")


def write_results_parquet(file: IO[bytes], lines: Lines) -> None:
    """Write the rows of `--results`."""
    write_rows(file, RESULT_COLUMNS, _result_rows(lines))


def _write_trec(file: IO[bytes], lines: Lines, _: Staged) -> None:
    for line in lines:
        file.write(journal_lines.run_lines(line))


def _write_msmarco(file: IO[bytes], lines: Lines, _: Staged) -> None:
    for line in lines:
        ranked = enumerate(journal_lines.scores(line), start=1)
        rows = (f"{line['query_id']}\t{id_}\t{rank}\n" for rank, (id_, _) in ranked)
        file.write("".join(rows).encode())


def _write_parquet(file: IO[bytes], lines: Lines, _: Staged) -> None:
    write_rows(file, RUN_COLUMNS, _run_rows(lines))


def _write_rank_llm(file: IO[bytes], lines: Lines, staged: Staged) -> None:
    write_array(file, _rank_llm_requests(lines, staged))


def write_array(file: IO[bytes], elements: Iterable[bytes]) -> None:
    """Write a JSON array with an element on each line."""
    before = b"[\n"
    for element in elements:
        file.write(before + element)
        before = b",\n"
    file.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _rank_llm_requests(lines: Lines, staged: Staged) -> Iterator[bytes]:
    for line in filter(journal_lines.has_ranking, lines):
        query = staged(line["query_id"])
        texts = dict(zip(query.document_ids, query.texts, strict=True))
        candidates = [
            {"docid": id_, "score": score, "doc": {"text": texts[id_]}}
            for id_, score in journal_lines.scores(line)
        ]
        request = {"query": {"text": query.text, "qid": query.id}, "candidates": candidates}
        yield to_json(request)


def _write_batch(file: IO[bytes], lines: Lines, staged: Staged) -> None:
    for line in lines:
        file.write(_batch_line(line, staged).encode())


def _batch_line(line: dict[str, Any], staged: Staged) -> str:
    if not journal_lines.has_ranking(line):
        error = line["error"]
        return batch_lines.failure_line(line["query_id"], error["code"], error["message"])
    # The line of --results has the same form for the journals of all versions.
    result = json.loads(journal_lines.result_line(line))
    results = [
        {"index": each["index"], "relevance_score": each.get("relevance", relevance(each["score"]))}
        | {name: each[name] for name in ("passage",) if name in each}
        for each in result["documents"]
    ]
    models = [result["provenance"]["model"]]
    if cascade := line.get(CASCADE):
        models.append(cascade["provenance"]["model"])
        # Callers sort by these, so they follow the scores that are lowered.
        for made, (_, score) in list(zip(results, journal_lines.scores(line), strict=True))[
            cascade["rescored"] :
        ]:
            made["relevance_score"] = relevance(score)
    if any(each["id"] != str(each["index"]) for each in result["documents"]):
        query = staged(line["query_id"])
        texts = dict(zip(query.document_ids, query.texts, strict=True))
        for made, each in zip(results, result["documents"], strict=True):
            made["document"] = {"id": each["id"], "text": texts[each["id"]]}
    body = {"model": "+".join(models), "results": results}
    return batch_lines.answer_line(line["query_id"], body)


#: The names that `--format` takes. The first is the default.
FORMATS = {
    "trec": RunFormat("lines of `query Q0 document rank score tag`", _write_trec),
    "msmarco": RunFormat("lines of `query<TAB>document<TAB>rank`", _write_msmarco),
    "parquet": RunFormat(
        "rows of `query_id`, `document_id`, `rank`, `score` and `tag`", _write_parquet, ".parquet"
    ),
    "rank_llm": RunFormat(
        'a JSON array of `{"query": {"text", "qid"}, "candidates": [{"docid", "score",'
        ' "doc": {"text"}}]}`',
        _write_rank_llm,
    ),
    "batch": RunFormat(
        'lines of `{"custom_id", "response": {"body": {"results": [{"index", "relevance_score"}]}},'
        ' "error"}`; results have `"document": {"id", "text"}` unless their ids are their indexes',
        _write_batch,
    ),
}


def _run_rows(lines: Lines) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        if journal_lines.has_ranking(line):
            tag = journal_lines.run_tag(line)
            for rank, (id_, score) in enumerate(journal_lines.scores(line), start=1):
                yield line["query_id"], id_, rank, score, tag


def _result_rows(lines: Lines) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        # The line of --results has the same form for the journals of all versions.
        result = json.loads(journal_lines.result_line(line))
        query_id = result["query_id"]
        if error := result.get("error"):
            yield (query_id, *[None] * 13, error["code"], error["message"])
            continue
        rescored = result.get(CASCADE, {}).get("rescored", len(result["documents"]))
        for place, each in enumerate(result["documents"]):
            source = (result if place < rescored else result[CASCADE])["provenance"]
            made_by = (source["model"], source.get("revision"), source["downgraded"], None, None)
            metadata = each.get("metadata")
            yield (
                *(query_id, each["id"], each["rank"], each["score"]),
                each.get("relevance", relevance(each["score"])),
                each["index"],
                *map(each.get("passage", {}).get, ("index", "begin", "end", "count")),
                None if metadata is None else json.dumps(metadata, ensure_ascii=False),
                *made_by,
            )
