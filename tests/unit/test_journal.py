"""Each query's result is in the finished files exactly once, in order; no file is incomplete."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import InvalidInput
from contract.results import relevance
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore import journal_lines
from producer.rescore.journal import Journal
from producer.rescore.staging import Staging

FAILURE = jobs.Failure(
    job_id="j2", code="bad_scores", message="NaN: ü", retryable=False, attempts=1
)


@contextmanager
def journal(output: Path | str, folder: Path, queries: int = 3) -> Iterator[Journal]:
    """Return a journal for the queries q0, q1 and so on."""
    source = folder / "in.jsonl"
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": [{"id": "d", "text": "t"}]})
        for n in range(queries)
    )
    source.write_text("\n".join(lines))
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(str(source))
        with Journal(str(output), staging) as made:
            yield made


def ranking(query_id: str, scores: list[float], metadata: Any = None) -> jobs.Ranking:
    return jobs.Ranking(
        query_id=query_id,
        documents=tuple(
            jobs.RankedDocument(
                id=f"d{place}",
                index=place,
                rank=place + 1,
                score=score,
                relevance=0.5,
                metadata=metadata,
            )
            for place, score in enumerate(sorted(scores, reverse=True))
        ),
    )


def result(*rankings: jobs.Ranking, model: str = "maker/model") -> jobs.JobResult:
    provenance = jobs.Provenance(
        model_requested=model,
        model=model,
        attempts=1,
        backend="torch",
        device="cpu",
        dtype="float32",
        max_length=512,
        pairs=3,
        unique_pairs=3,
        tokens=9,
        truncated=0,
        seconds=0.1,
    )
    return jobs.JobResult(job_id="j1", rankings=rankings, provenance=provenance)


def test_a_run_has_ranks_from_one_and_the_model_in_its_tag(tmp_path: Path) -> None:
    output = tmp_path / "out.trec"
    with journal(output, tmp_path) as made:
        made.add_result(result(ranking("q0", [2.0, -1.25])))
        made.write_run(str(output))
    assert output.read_text() == "q0 Q0 d0 1 2.0 rerankq-model\nq0 Q0 d1 2 -1.25 rerankq-model\n"


def test_results_come_out_in_the_order_of_the_input_whatever_the_order_of_arrival(
    tmp_path: Path,
) -> None:
    output, results = tmp_path / "out.trec", tmp_path / "out.jsonl"
    order = list(range(50))
    random.Random(1).shuffle(order)
    with journal(output, tmp_path, queries=50) as made:
        for n in order[:40]:
            made.add_result(result(ranking(f"q{n}", [float(n)])))
        made.add_result(result(*(ranking(f"q{n}", [float(n)]) for n in order[40:])))
        made.write_run(str(output))
        made.write_results(str(results))
    assert [each.split()[0] for each in output.read_text().splitlines()] == [
        f"q{n}" for n in range(50)
    ]
    read = [json.loads(each) for each in results.read_text().splitlines()]
    assert [(each["query_id"], each["documents"][0]["score"]) for each in read] == [
        (f"q{n}", float(n)) for n in range(50)
    ]


def test_scores_do_not_increase_and_read_back_to_the_last_bit(tmp_path: Path) -> None:
    random_ = random.Random(5)
    scores = [random_.gauss(0, 10) for _ in range(500)] + [0.1 + 0.2, 5e-324, 1e300, -1e-9, 3.0]
    output = tmp_path / "out.trec"
    with journal(output, tmp_path) as made:
        made.add_result(result(ranking("q1", scores)))
        made.write_run(str(output))
    columns = [each.split() for each in output.read_text().splitlines()]
    assert all(len(each) == 6 for each in columns)
    assert [float(each[4]) for each in columns] == sorted(scores, reverse=True)
    assert [int(each[3]) for each in columns] == list(range(1, len(scores) + 1))


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("bundled", "rerankq-bundled"),
        ("cross-encoder/ms-marco-MiniLM-L-6-v2", "rerankq-ms-marco-MiniLM-L-6-v2"),
        ("/srv/my models/fine tuned/", "rerankq-fine_tuned"),
    ],
)
def test_the_tag_names_the_model_in_one_word(model: str, tag: str) -> None:
    assert journal_lines.run_tag({"provenance": {"model": model}}) == tag


def test_a_result_line_holds_documents_metadata_and_where_the_scores_came_from(
    tmp_path: Path,
) -> None:
    metadata = {"a": None, "ü": [1, {"b": None}]}
    results = tmp_path / "out.jsonl"
    with journal(tmp_path / "out.trec", tmp_path) as made:
        made.add_result(result(ranking("q0", [1.5], metadata)))
        made.write_results(str(results))
    (line,) = map(json.loads, results.read_text().splitlines())
    assert line["documents"] == [
        {
            "id": "d0",
            "index": 0,
            "rank": 1,
            "score": 1.5,
            "relevance": relevance(1.5),
            "metadata": metadata,
        }
    ]
    assert line["provenance"]["model"] == "maker/model"
    assert "seconds" not in line["provenance"]  # of the job, not of this query


def test_a_failed_query_is_in_the_results_with_its_reason_and_not_in_the_run(
    tmp_path: Path,
) -> None:
    output, results = tmp_path / "out.trec", tmp_path / "out.jsonl"
    with journal(output, tmp_path) as made:
        made.add_failure(["q0", "q2"], FAILURE)
        made.add_result(result(ranking("q1", [1.0])))
        made.write_run(str(output))
        made.write_results(str(results))
    assert [each.split()[0] for each in output.read_text().splitlines()] == ["q1"]
    read = [json.loads(each) for each in results.read_text().splitlines()]
    assert [each["query_id"] for each in read] == ["q0", "q1", "q2"]
    reason = {"code": "bad_scores", "message": "NaN: ü", "retryable": False}
    assert read[0]["error"] == read[2]["error"] == reason


def test_what_arrives_after_a_reading_is_appended(tmp_path: Path) -> None:
    with journal(tmp_path / "out.trec", tmp_path) as made:
        made.add_result(result(ranking("q1", [1.0])))
        made.add_result(result(ranking("q0", [1.0])))
        assert [line["query_id"] for line in made.lines()] == ["q0", "q1"]
        made.add_result(result(ranking("q2", [1.0])))
        assert [line["query_id"] for line in made.lines()] == ["q0", "q1", "q2"]


def test_results_can_be_read_beside_the_output_as_they_arrive(tmp_path: Path) -> None:
    with journal(tmp_path / "out.trec", tmp_path) as made:
        assert made.path == tmp_path / "out.trec.partial.jsonl"
        for count in range(1, 4):
            made.add_result(result(ranking(f"q{count - 1}", [1.0])))
            assert len([json.loads(each) for each in made.path.read_text().splitlines()]) == count
        assert not (tmp_path / "out.trec").exists()
        made.remove()
        assert not made.path.exists()


def test_what_was_scored_is_kept_and_said_and_an_empty_journal_is_removed(tmp_path: Path) -> None:
    said: list[str] = []
    with journal(tmp_path / "out.trec", tmp_path) as made:
        made.keep(said.append)
        assert said == []
        assert made.path is not None
        assert not made.path.exists()
    with journal(tmp_path / "out.trec", tmp_path) as made:
        made.add_result(result(ranking("q0", [1.0])))
        made.keep(said.append)
    assert said == [f"partial results are in {tmp_path / 'out.trec.partial.jsonl'}"]
    assert (tmp_path / "out.trec.partial.jsonl").stat().st_size > 0


@pytest.mark.parametrize("old", [None, "the old run\n"])
def test_a_run_that_fails_half_way_leaves_what_was_there(tmp_path: Path, old: str | None) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    output = folder / "out.trec"
    if old is not None:
        output.write_text(old)
    with journal(output, tmp_path) as made:
        made.add_result(result(ranking("q0", [1.0] * 5_000)))
        made.add_result(result(ranking("q1", [1.0])))
        # Given a journal whose second line was damaged on disk
        assert made.path is not None
        whole = made.path.read_bytes()
        made.path.write_bytes(whole[:-20])
        for write in (made.write_run, made.write_results):
            with pytest.raises(InvalidInput, match="damaged at byte"):
                write(str(output))
        made.remove()
    assert (output.read_text() if output.exists() else None) == old
    assert list(folder.iterdir()) == ([output] if old is not None else [])


def test_standard_output_may_stand_in_place_of_a_file(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with journal("-", tmp_path) as made:
        assert made.path is None
        made.add_result(result(ranking("q0", [1.0])))
        made.write_run("-")
        made.keep(print)
        made.remove()
    assert capsysbinary.readouterr().out == b"q0 Q0 d0 1 1.0 rerankq-model\n"
    assert list(folder.iterdir()) == []


def test_a_journal_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="No such file"),
        journal(tmp_path / "no" / "out", tmp_path),
    ):
        pass
