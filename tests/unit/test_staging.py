"""Each pair of the input is staged once, in order; inconsistent input is reported."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore.journal_index import JournalIndex
from producer.rescore.staging import Counts, Staging

RUN = "q2 Q0 d1 1 5 t\nq2 Q0 d2 2 4 t\nq1 Q0 d3 1 1 t\n"
QUERIES = "q1\tquery one\nq2\tquery two\nq9\tnot in the run\n"
CORPUS = "d1\tone\nd2\ttwo\nd3\tthree\nd9\tnot in the run\n"


class Files:
    """Return the files of a collection, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextmanager
def staging(
    *, skip: bool = False, depth: int | None = None, **settings: Any
) -> Iterator[tuple[Staging, InvalidLines]]:
    bad = InvalidLines(skip=skip)
    with Staging(Settings.load(**settings), bad, depth) as made:
        yield made, bad


def load(
    into: Staging, files: Files, run: str = RUN, queries: str = QUERIES, corpus: str = CORPUS
) -> None:
    into.load_run(files("run", run), files("queries", queries), files("corpus", corpus))


def ids(staged: Staging) -> dict[str, list[str]]:
    """Return the document ids of each query, in the order of scoring."""
    return {
        each.query_id or "": [candidate.id for candidate in each.candidates]
        for each in staged.requests(None)
    }


def line(query_id: str, *document_ids: str, **changes: Any) -> str:
    candidates = [{"id": each, "text": f"text of {each}"} for each in document_ids]
    return json.dumps({"query_id": query_id, "query": "q", "candidates": candidates, **changes})


def test_a_run_is_staged_with_its_texts_in_its_order(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        assert list(made.requests(top_k=3)) == [
            jobs.Request(
                query_id="q2",
                query="query two",
                top_k=3,
                candidates=(
                    jobs.Candidate(id="d1", text="one", score=5),
                    jobs.Candidate(id="d2", text="two", score=4),
                ),
            ),
            jobs.Request(
                query_id="q1",
                query="query one",
                top_k=3,
                candidates=(jobs.Candidate(id="d3", text="three", score=1),),
            ),
        ]
        assert made.counts() == Counts(queries=2, pairs=3, documents=3)


def test_the_best_come_first_by_score_then_by_rank_then_as_written(files: Files) -> None:
    run = "q1 Q0 d1 3 1.0 t\nq1 Q0 d2 2 1.0 t\nq1 Q0 d3 9 2.0 t\nq1 Q0 d9 2 1.0 t\n"
    with staging() as (made, _):
        load(made, files, run)
        assert ids(made) == {"q1": ["d3", "d2", "d9", "d1"]}
        assert made.first_stage("q1") == [("d3", 2.0), ("d2", 1.0), ("d9", 1.0), ("d1", 1.0)]


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_the_depth_keeps_the_best_and_is_counted(files: Files, depth: int) -> None:
    run = "q1 Q0 d1 3 1 t\nq1 Q0 d2 2 2 t\nq1 Q0 d3 1 3 t\nq2 Q0 d3 1 1 t\n"
    kept = ["d3", "d2", "d1"][:depth]
    with staging(depth=depth) as (made, _):
        load(made, files, run)
        assert ids(made) == {"q1": kept, "q2": ["d3"]}
        assert [each for each, _ in made.first_stage("q1")] == kept
        assert made.counts() == Counts(queries=2, pairs=len(kept) + 1, documents=len({*kept, "d3"}))


def test_queries_may_be_mixed_in_a_run(files: Files) -> None:
    with staging() as (made, _):
        load(made, files, "q1 Q0 d1 1 3 t\nq2 Q0 d1 1 3 t\nq1 Q0 d2 2 2 t\nq2 Q0 d3 2 2 t\n")
        assert ids(made) == {"q1": ["d1", "d2"], "q2": ["d1", "d3"]}


@pytest.mark.parametrize("seed", range(10))
def test_every_pair_of_a_run_is_staged_once(files: Files, seed: int) -> None:
    random_ = random.Random(seed)
    documents = [f"d{n}" for n in range(50)]
    pairs = [
        (f"q{n}", document)
        for n in range(20)
        for document in random_.sample(documents, random_.randint(1, 50))
    ]
    random_.shuffle(pairs)
    scores = {pair: random_.choice([random_.gauss(0, 9), 1.0]) for pair in pairs}
    run = "".join(f"{q}\tQ0  {d} 0 {score!r} t\n" for (q, d), score in scores.items())
    texts = "".join(f"{each}\ttext of {each}\n" for each in documents)
    with staging() as (made, _):
        load(made, files, run, "".join(f"q{n}\tquery\n" for n in range(20)), texts)
        staged = {(r.query_id, c.id): c for r in made.requests(None) for c in r.candidates}
        assert {pair: each.score for pair, each in staged.items()} == scores
        assert all(each.text == f"text of {each.id}" for each in staged.values())
        assert made.counts().pairs == len(pairs)
        assert list(ids(made)) == list(dict.fromkeys(query_id for query_id, _ in pairs))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "run",
            "q1 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t\n",
            "run:2: duplicate document 'd1' for query 'q1'",
        ),
        ("queries", "q1\ta\nq2\tb\nq2\tb\n", "queries:3: duplicate query id 'q2'"),
        ("queries", "q1\ta\nq2\t \n", "queries:2: the text of query 'q2' is empty"),
        ("queries", "q1\ta\n", "run: 1 query not in {}: q2"),
        ("queries", "q8\ta\n", "run: 2 queries not in {}: q2, q1"),
        ("corpus", f"{CORPUS}d2\tb\n", "corpus:5: duplicate document id 'd2'"),
        ("corpus", "d3\tthree\n", "run: 2 documents not in {}: d1, d2"),
        ("corpus", "d3\tthree\nd1\tone\n", "run: 1 document not in {}: d2"),
        ("corpus", '{"_id": "d1", "text": "\\ud800"}\n', "corpus:1: "),
        ("run", f"{RUN}q1 Q0 d1 1e300 2 t\n", "run:4: "),
        ("run", f"{RUN}q1 Q0 d1 {2**63} 2 t\n", "run:4: "),
    ],
)
def test_what_is_wrong_with_a_run_is_said_in_one_line(
    files: Files, name: str, content: str, said: str
) -> None:
    with staging() as (made, bad), pytest.raises(InvalidInput) as caught:
        load(made, files, **{name: content})
    assert said.format(files.folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bad.count == 0


def test_of_many_unknown_documents_the_first_five_are_named(files: Files) -> None:
    run = "".join(f"q1 Q0 x{n} {n} {-n} t\nq2 Q0 x{n} {n} {-n} t\n" for n in range(1_200))
    with staging() as (made, _), pytest.raises(InvalidInput) as caught:
        load(made, files, run)
    assert "1,200 documents not in" in str(caught.value)
    assert str(caught.value).endswith(
        ": x0, x1, x2, x3, x4, ...; that file has ids such as 'd1', 'd2'"
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_line_of_a_run_is_staged_or_counted(files: Files, seed: int) -> None:
    random_ = random.Random(seed)
    kinds: list[Callable[[], str]] = [
        lambda: f"q{random_.randint(1, 3)} Q0 d{random_.randint(1, 3)} 1 {random_.random()} t",
        lambda: f"q1 Q0 d7{random_.randint(1, 3)} 1 {random_.random()} t",
        lambda: f"q9{random_.randint(1, 3)} Q0 d1 1 {random_.random()} t",
        lambda: "q1 Q0 d1 1 nan t",
        lambda: "q1 Q0 d1 1 2.5 tq1 Q0 d2 1 2.5 t",
        lambda: "q1\tQ0\td 1\t1\t2.5\tt",
        lambda: "nonsense",
        lambda: "q1 Q0 d\u00a01 1 2.5 t",
    ]
    run = ["q1 Q0 d1 1 5 t", *(random_.choice(kinds)() for _ in range(200))]
    with staging(skip=True) as (made, bad):
        load(made, files, "\n".join(run), queries=f"{QUERIES}q3\tthree\n")
        assert made.counts().pairs + bad.count == len(run)


def test_records_of_no_use_to_the_run_are_counted(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        assert (made.load_report.other_queries, made.load_report.documents) == (1, 4)
        assert made.load_report.contradictions == 0


def test_ranks_that_contradict_the_scores_are_counted_and_the_scores_rank(files: Files) -> None:
    run = "q1 Q0 d1 1 1.0 t\nq1 Q0 d2 2 2.0 t\nq1 Q0 d3 3 0.5 t\nq2 Q0 d1 1 9.0 t\n"
    with staging() as (made, _):
        load(made, files, run)
        assert ids(made)["q1"] == ["d2", "d1", "d3"]
        assert made.load_report.contradictions == 1
        assert made.load_report.first_contradiction == f"{files.folder / 'run'}:2"


@pytest.mark.parametrize("name", ["d1\u200b", "d1\ufeff", "d1\u00ad", "D1", "d\u0301\u200b1"])
def test_an_unknown_id_that_looks_like_a_known_one_is_shown_escaped_beside_it(
    files: Files, name: str
) -> None:
    with staging() as (made, _), pytest.raises(InvalidInput) as caught:
        load(made, files, run=f"q1 Q0 {name} 1 5 t\n")
    message = str(caught.value)
    assert message.isascii()
    assert f"that file has 'd1' instead of '{name.encode('unicode_escape').decode()}'" in message


def test_the_top1000_of_ms_marco_is_staged_though_its_queries_are_mixed(files: Files) -> None:
    content = "1\t7\tone\ta\n2\t7\ttwo\ta\n1\t9\tone\tb\n1\t8\tone\tc\n"
    with staging(depth=2) as (made, _):
        made.load_requests(files("in", content))
        assert ids(made) == {"1": ["7", "9"], "2": ["7"]}
        assert [each.query for each in made.requests(None)] == ["one", "two"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("1\t7\tone\tb", "in:2: duplicate document '7' for query '1'"),
        ("1\t8\tother\tb", "in:2: the text of query '1' differs from an earlier line"),
        ("1\t8\t \tb", "in:2: the query is empty"),
        ("1\t8 9\tone\tb", "in:2: invalid id '8 9'"),
        (f"1\t8\tone\t{'x' * 51}", "in:2: a text has 51 characters"),
        ("1\t8\tone", "in:2: expected JSON"),
    ],
)
def test_a_wrong_line_of_a_top1000_is_refused_or_skipped(
    files: Files, wrong: str, said: str
) -> None:
    path = files("in", f"1\t7\tone\ta\n{wrong}\n2\t7\ttwo\ta\n")
    with staging(max_text_chars=50) as (made, _), pytest.raises(InvalidInput) as caught:
        made.load_requests(path)
    assert said in str(caught.value)
    with staging(max_text_chars=50, skip=True) as (made, bad):
        made.load_requests(path)
        assert ids(made) == {"1": ["7"], "2": ["7"]}
        assert bad.count == 1


def test_judgments_of_other_queries_than_the_runs_are_refused(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        judged = files("qrels", "x1 0 d1 1\n")
        with pytest.raises(InvalidInput, match="none of its queries is in the run") as caught:
            made.load_qrels(judged)
    assert "queries such as 'x1', and the run has 'q1'" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "count", "left"),
    [
        ({"run": f"{RUN}q2 Q0 d1 9 1 t\nq2 Q0 d1\n"}, 2, {"q2": ["d2", "d1"], "q1": ["d3"]}),
        ({"queries": "q1\ta\n"}, 2, {"q1": ["d3"]}),
        ({"queries": "q1\ta\nq2\t \n"}, 3, {"q1": ["d3"]}),
        ({"corpus": "d1\ta\nd3\tc\n"}, 1, {"q2": ["d1"], "q1": ["d3"]}),
        ({"corpus": "d1\ta\nd2\tb\n"}, 1, {"q2": ["d1", "d2"]}),
        ({"corpus": f"{CORPUS}nothing\n"}, 1, {"q2": ["d1", "d2"], "q1": ["d3"]}),
    ],
)
def test_with_skip_invalid_the_wrong_lines_are_counted_and_the_rest_is_staged(
    files: Files, changes: dict[str, str], count: int, left: dict[str, list[str]]
) -> None:
    with staging(skip=True) as (made, bad):
        load(made, files, **changes)
        assert bad.count == count
        assert ids(made) == left
        assert list(ids(made)) == list(left)
        assert made.counts().pairs == sum(map(len, left.values()))


def test_a_query_without_a_known_document_is_counted(files: Files) -> None:
    with staging(skip=True) as (made, _):
        load(made, files, corpus="d3\ta\n")
        assert ids(made) == {"q1": ["d3"]}
        assert made.load_report.emptied_queries == 1


def test_of_lines_with_one_id_skip_invalid_counts_the_last(files: Files) -> None:
    with staging(skip=True) as (made, bad):
        load(
            made,
            files,
            "q1 Q0 d1 1 9 t\nq1 Q0 d2 2 5 t\nq1 Q0 d1 3 1 t\n",
            "q1\tfirst\nq1\tlast\n",
            "d1\tfirst\nd1\tlast\nd2\ttwo\n",
        )
        (made_request,) = made.requests(None)
        assert bad.count == 3
        assert made_request.query == "last"
        assert made_request.candidates == (
            jobs.Candidate(id="d2", text="two", score=5),
            jobs.Candidate(id="d1", text="last", score=1),
        )


def test_when_all_lines_are_skipped_there_is_nothing_to_score(files: Files) -> None:
    with (
        staging(skip=True) as (made, _),
        pytest.raises(InvalidInput, match="run: no query with candidates is left"),
    ):
        load(made, files, corpus="x\ty\n")


def test_texts_are_kept_to_the_last_character(files: Files) -> None:
    odd = ["", "\u0000 nul", "\u2028", "\r", "😀" * 50, "tab\t", '"', "'; DROP TABLE queries"]
    corpus = "".join(
        json.dumps({"_id": f"d{n}", "text": f"<{text}>"}) + "\n" for n, text in enumerate(odd)
    )
    run = "".join(f"q1 Q0 d{n} {n} {-n} t\n" for n in range(len(odd)))
    with staging() as (made, _):
        load(made, files, run, corpus=corpus)
        (made_request,) = made.requests(None)
        assert [each.text for each in made_request.candidates] == [f"<{text}>" for text in odd]


def test_request_lines_keep_their_order_whatever_their_scores(files: Files) -> None:
    candidates = [
        {"id": "d1", "text": "a", "score": 1.0, "metadata": {"a": [None, {"b": 2}]}},
        {"id": "d2", "text": "b"},
        {"id": "d3", "text": "c", "score": 9.0},
    ]
    content = f"{line('q2', 'd1')}\n{line('q1', candidates=candidates)}\n"
    with staging(depth=2) as (made, _):
        made.load_requests(files("in", content))
        assert ids(made) == {"q2": ["d1"], "q1": ["d1", "d2"]}
        kept = list(made.requests(None))[1].candidates
        assert kept == tuple(jobs.Candidate.model_validate(each) for each in candidates[:2])
        assert made.first_stage("q1") == [("d1", 0.0), ("d2", -1.0)]
        assert made.counts() == Counts(queries=2, pairs=3, documents=2)


def test_one_document_may_have_another_text_for_another_query(files: Files) -> None:
    other = [{"id": "d1", "text": "another text"}]
    with staging() as (made, _):
        made.load_requests(files("in", f"{line('q1', 'd1')}\n{line('q2', candidates=other)}\n"))
        texts = [each.candidates[0].text for each in made.requests(None)]
        assert texts == ["text of d1", "another text"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (line("q1", "d2"), "in:2: duplicate query id 'q1'"),
        (line("q2", "d1", "d1"), "in:2: duplicate candidate id 'd1'"),
        (line("q2", "d1", query="x" * 51), "in:2: a text has 51 characters; the limit is 50"),
        (line("q2", candidates=[{"id": "d1", "text": "x" * 51}]), "in:2: a text has 51 characters"),
        (line("q2"), "in:2: candidates: "),
    ],
)
def test_a_wrong_request_line_is_refused_or_skipped(files: Files, wrong: str, said: str) -> None:
    path = files("in", f"{line('q1', 'd1')}\n{wrong}\n{line('q3', 'd3')}\n")
    with staging(max_text_chars=50) as (made, _), pytest.raises(InvalidInput) as caught:
        made.load_requests(path)
    assert said in str(caught.value)
    with staging(max_text_chars=50, skip=True) as (made, bad):
        made.load_requests(path)
        assert ids(made) == {"q1": ["d1"], "q3": ["d3"]}
        assert bad.count == 1


def test_a_query_may_have_more_candidates_than_a_job(files: Files) -> None:
    """Accept a query that is too large for a job, because it is split when it is sent."""
    with staging(max_pairs_per_job=1) as (made, _):
        load(made, files)
        assert len(ids(made)["q2"]) > 1


@pytest.mark.parametrize("text", ["x" * 3_000, "\u0001" * 600, "語" * 1_000])
def test_a_document_that_no_job_can_hold_is_named(files: Files, text: str) -> None:
    candidates = [{"id": "small", "text": "t"}, {"id": "large", "text": text}]
    source = json.dumps({"query_id": "q1", "query": "q", "candidates": candidates})
    with (
        staging(max_bytes_per_job=3_500) as (made, _),
        pytest.raises(InvalidInput, match=r"'large' of query 'q1' is .*MAX_BYTES_PER_JOB"),
    ):
        made.load_requests(files("in", source))
    with staging(max_bytes_per_job=5_000) as (made, _):
        made.load_requests(files("in", source))


def test_judgments_are_read_by_query(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        made.load_qrels(files("qrels", "q1 0 d1 1\nq1 0 d2 0\nq7 0 d1 2\n"))
        assert made.judgments("q1") == {"d1": 1, "d2": 0}
        assert made.judgments("q2") == {}
        assert made.judged_queries() == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("q1 0 d1 1\nq1 0 d1 0\n", "qrels:2: duplicate judgment of 'd1' for query 'q1'"),
        ("q1 0 d2 1\nq1 0 d1 1e300\n", "qrels:2: "),
        ("query-id\tcorpus-id\tscore\n", "qrels: "),
        ("", "qrels: the file is empty"),
    ],
)
def test_wrong_judgments_are_refused(files: Files, content: str, said: str) -> None:
    with staging() as (made, _), pytest.raises(InvalidInput) as caught:
        made.load_qrels(files("qrels", content))
    assert said in str(caught.value)


def test_of_two_judgments_skip_invalid_counts_the_last(files: Files) -> None:
    with staging(skip=True) as (made, bad):
        made.load_qrels(files("qrels", "q1 0 d1 1\nq1 0 d1 3\n"))
        assert made.judgments("q1") == {"d1": 3}
        assert bad.count == 1


def test_what_was_scored_is_given_in_the_order_of_the_input(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        index = JournalIndex(made)
        index.add(0, {"query_id": "q1"})
        index.add(70, {"query_id": "q2"})
        assert list(made.query_ids()) == ["q2", "q1"]
        assert list(index.starts()) == [70, 0]


def test_two_journals_of_one_collection_do_not_see_each_others_lines(files: Files) -> None:
    with staging() as (made, _):
        load(made, files)
        one, other = JournalIndex(made), JournalIndex(made)
        one.add(0, {"query_id": "q1"})
        other.add(70, {"query_id": "q2"})
        assert (list(one.starts()), list(other.starts())) == ([0], [70])
        assert one.are_done(["q1"])
        assert not other.are_done(["q1"])
