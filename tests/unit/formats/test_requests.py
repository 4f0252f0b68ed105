"""Queries with their documents are read in the shapes that rerankers accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from producer.formats.requests import Pair, read_requests
from tests.unit.formats.samples import (
    REQUESTS,
    rank_llm_line,
    read,
    refusal,
    request_line,
)


def test_our_request_lines_are_read_whole(tmp_path: Path) -> None:
    candidates = [
        {"id": 7, "text": "one", "score": 1.5, "metadata": {"a": [1]}},
        {"id": "d2", "text": ""},
    ]
    (made,) = read(read_requests, tmp_path / "in", request_line(query_id=3, candidates=candidates))
    assert (made.query_id, made.query) == ("3", "q")
    assert made.candidates == (
        jobs.Candidate(id="7", text="one", score=1.5, metadata={"a": [1]}),
        jobs.Candidate(id="d2", text=""),
    )


@pytest.mark.parametrize(
    "line",
    [
        '{"model": "m", "query": "q", "documents": ["one", "two"], "return_documents": true}',
        '{"query": "q", "documents": [{"text": "one"}, {"text": "two"}]}',
        '{"query": "q", "documents": [{"id": 0, "text": "one"}, {"id": "1", "text": "two"}]}',
        '{"query": "q", "texts": ["one", "two"], "raw_scores": true, "truncate": true}',
        '{"query": {"text": "q"}, "passages": [{"text": "one"}, {"text": "two"}]}',
    ],
)
def test_requests_of_other_rerankers_are_read_and_places_are_ids(tmp_path: Path, line: str) -> None:
    (made,) = read(read_requests, tmp_path / "in", f"{line}\n")
    assert (made.query_id, made.query) == ("1", "q")
    assert [(each.id, each.text) for each in made.candidates] == [("0", "one"), ("1", "two")]


def test_a_line_of_a_batch_file_is_a_request_with_its_custom_id(tmp_path: Path) -> None:
    body = '{"model": "m", "query": "q", "documents": ["one", {"text": "two"}], "top_n": 1}'
    line = f'{{"custom_id": "c-7", "method": "POST", "url": "/v1/rerank", "body": {body}}}\n'
    (made,) = read(read_requests, tmp_path / "in", line)
    assert (made.query_id, made.query, made.top_k) == ("c-7", "q", None)
    assert [(each.id, each.text) for each in made.candidates] == [("0", "one"), ("1", "two")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"custom_id": "c", "body": []}', "body: must be an object, not a list, in a line with"),
        ('{"custom_id": "c", "body": {}}', '"query" and "candidates" are required'),
        ('{"custom_id": "c", "body": {}, "query": "q"}', "query: unknown field, in a line with"),
    ],
)
def test_a_wrong_line_of_a_batch_file_is_refused(tmp_path: Path, line: str, message: str) -> None:
    assert message in refusal(read_requests, tmp_path / "in", f"{line}\n")


@pytest.mark.parametrize(
    "candidate",
    [
        '{"docid": "d1", "contents": "one", "score": 2}',
        '{"docid": "d1", "doc": {"segment": "one"}, "score": 2}',
        '{"_id": "d1", "title": "", "text": "one", "score": 2}',
    ],
)
def test_candidates_may_have_the_keys_of_corpora(tmp_path: Path, candidate: str) -> None:
    line = f'{{"query": "q", "candidates": [{candidate}]}}\n'
    (made,) = read(read_requests, tmp_path / "in", line)
    assert made.candidates == (jobs.Candidate(id="d1", text="one", score=2),)


def test_ms_marcos_top1000_is_read(tmp_path: Path) -> None:
    content = "12\t7\tquery\tpassage one\n12\t8\tquery\tpassage two\n"
    assert read(read_requests, tmp_path / "in", content) == [
        Pair("12", "query", "7", "passage one"),
        Pair("12", "query", "8", "passage two"),
    ]


def test_top1000_may_have_a_header_quotes_and_tabs(tmp_path: Path) -> None:
    content = '\ufeffqid\tpid\tquery\tpassage\r\n12\t7\t"quoted" query\t"open and\ttab\r\n'
    assert read(read_requests, tmp_path / "in", content) == [
        Pair("12", '"quoted" query', "7", '"open and\ttab')
    ]
    for header in ("pid\tqid\tpassage\tquery", "qid\tpid\tpassage\tquery"):
        assert "before the query" in refusal(read_requests, tmp_path / "in", f"{header}\n{content}")
    documents = "D1\thttps://host/page\tTitle\tBody\n"
    said = refusal(read_requests, tmp_path / "in", documents)
    assert said.endswith("(id, URL, title and body per line); pass them with --corpus")


def test_nan_is_refused_where_it_is_ranked_and_null_elsewhere(tmp_path: Path) -> None:
    nan = float("nan")
    metadata = {"year": nan, "list": [1, {"x": float("inf")}]}
    line = request_line(candidates=[{"id": "d1", "text": "one", "metadata": metadata}])
    (made,) = read(read_requests, tmp_path / "in", line)
    assert made.candidates[0].metadata == {"year": None, "list": [1, {"x": None}]}
    ranked = request_line(candidates=[{"id": "d1", "text": "one", "score": nan}])
    assert "candidates[0].score: must be a finite number" in refusal(
        read_requests, tmp_path / "in", ranked
    )


def test_a_line_without_a_query_id_gets_its_number(tmp_path: Path) -> None:
    ours = '{"query": "q", "candidates": [{"id": "d1", "text": "one"}]}\n'
    rank_llm = '{"query": {"text": "q"}, "candidates": [{"docid": "d1", "doc": "one"}]}\n'
    made = read(read_requests, tmp_path / "in", f"{ours}\n{ours}{rank_llm}")
    assert [each.query_id for each in made] == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        *(({name: "inner"}, "inner") for name in ("text", "segment", "contents", "content")),
        *(({name: "inner"}, "inner") for name in ("body", "passage")),
        ({"title": "Title", "text": "inner"}, "Title inner"),
        ({"title": "", "segment": "inner", "url": "x"}, "inner"),
        ({"passage": "last", "text": "first"}, "first"),
        ({"text": None, "contents": "inner"}, "inner"),
    ],
)
def test_a_document_of_rank_llm_may_have_any_of_its_shapes(
    tmp_path: Path, doc: Any, text: str
) -> None:
    line = rank_llm_line({"docid": 12, "score": 3.5, "doc": doc}, qid=4)
    (made,) = read(read_requests, tmp_path / "in", line)
    assert (made.query_id, made.query) == ("4", "q")
    assert made.candidates == (jobs.Candidate(id="12", text=text, score=3.5),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "expected JSON"),
        ("query\tone\ttwo", "or the four columns of MS MARCO's top1000"),
        ('{"text_1": "q", "text_2": ["a"]}', "the keys are text_1, text_2"),
        ('{"question": "q", "ctxs": []}', "the keys are question, ctxs"),
        ("[1]", "expected a JSON object"),
        ('"text"', "expected JSON"),
        (request_line(candidates=[]), "candidates"),
        (request_line(candidates=None), "candidates"),
        (request_line(candidates={"id": "d1"}), "candidates"),
        ('{"query": "q"}', "candidates"),
        (request_line(candidates=["text"]), "candidates[0]"),
        (request_line(candidates=[{"text": "no id"}]), "candidates[0].id"),
        (request_line(candidates=[{"id": "d1"}]), "candidates[0].text"),
        (request_line(candidates=[{"id": "d1", "text": "a"}] * 2), "duplicate candidate id 'd1'"),
        (
            request_line(candidates=[{"id": n, "text": "a"} for n in (1, "1")]),
            "duplicate candidate id '1'",
        ),
        (request_line(candidates=[{"id": "a b", "text": "a"}]), "white space"),
        (request_line(candidates=[{"id": "d1", "text": "\ud800"}]), "surrogate"),
        (request_line(candidates=[{"id": "d1", "text": "a", "x": 1}]), "x: unknown field"),
        (request_line(candidates=[{"id": "d1", "text": "a", "score": "high"}]), "score"),
        (request_line(candidates=[{"id": "d1", "text": "a", "score": float("nan")}]), "NaN"),
        ('{"query": "q", "candidates": [{"id": "d", "text": "", "score": 1e999}]}', "finite"),
        (request_line(query=""), "query: must not be blank"),
        (request_line(query=5), "query"),
        (request_line(query="\udfff"), "surrogate"),
        (request_line(query_id="a b"), "white space"),
        (request_line(query_id=""), "must not be empty"),
        (request_line(qid="1"), "qid: unknown field"),
        ('{"query": "q", "query": "r", "candidates": []}', 'duplicate key "query"'),
        (
            '{"query": "q", "candidates": [{"id": "1", "text": "a", "text": "b"}]}',
            'duplicate key "text"',
        ),
        ('{"query": "q", "documents": "one"}', '"documents" must be a list, not a string'),
        ('{"query": "q", "documents": [5]}', "documents[0]: must be a string or an object"),
        ('{"query": "q", "documents": [{"name": "a"}]}', "documents[0] has no text: its keys are"),
        ('{"query": "q", "texts": []}', "candidates: must not be empty"),
        ('{"query": "q", "documents": ["a"], "top_n": 1}', "use --top-k"),
        ('{"query": "q", "documents": ["a"], "rank_fields": ["x"]}', "rank_fields: unknown field"),
        (rank_llm_line(), "candidates"),
        (rank_llm_line({"docid": "d1", "doc": {"url": "x"}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1", "doc": {"text": 5}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1"}), "text"),
        (rank_llm_line({"doc": "text"}), '"docid"'),
        (rank_llm_line("text"), '"docid"'),
        (rank_llm_line({"docid": "d1", "doc": "a"}, qid="a b"), "white space"),
        (rank_llm_line({"docid": "d1", "doc": "a"}, text=" "), "query: must not be blank"),
        ('{"query": {"qid": 1, "text": "q"}}', '"query" and "candidates" are required'),
    ],
)
def test_a_wrong_request_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_requests, tmp_path / "in", f"{REQUESTS}{line.rstrip()}\n")
    assert message.startswith("3: ")
    assert said in message
