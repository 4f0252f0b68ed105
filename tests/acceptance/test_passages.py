"""Long documents are read whole, through the clients, the command, the cache and HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.jobs import Passage, RankedDocument
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import environment_of
from tests.command_line import Completed, rerankq
from tests.stub_models import OTHER as SECOND
from tests.stub_models import STUB
from worker.engine.stub import StubEngine

QUERY = "Which editor changes the tags of music files?"
ANSWER = "EasyTAG is an editor that changes the tags of music files."
FILLER = "The cat sat on the mat near the door. "
#: About 3,000 tokens in front of the answer.
FAR = f"{FILLER * 300}{ANSWER} {FILLER * 60}"
OTHER = f"The tags of some music files. {FILLER * 20}"
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "other", "text": OTHER},
    {"id": "short", "text": "A game with a blue hedgehog."},
    {"id": "far", "text": FAR, "metadata": {"kept": True}},
]


def test_the_sentence_at_token_3000_is_found_by_both_clients(client: RerankClient) -> None:
    plain = client.rerank(QUERY, DOCUMENTS, timeout=60)
    assert plain.documents[0].id == "other"
    assert plain.rankings[0].truncated == plain.provenance.truncated == 1
    lost = plain.rankings[0].lost_tokens or 0
    assert plain.provenance.lost_tokens == lost
    assert 3_000 < lost < 3_800
    assert all(each.passage is None for each in plain.documents)

    found = client.rerank(QUERY, DOCUMENTS, timeout=60, passages=128)
    assert found.documents[0].id == "far"
    assert found.documents[0].metadata == {"kept": True}
    passage = _passage(found.documents[0])
    assert ANSWER in FAR[passage.begin : passage.end]
    assert found.provenance.passages == "128/64/max"
    # Most of them are equal
    assert 3 < (found.provenance.passages_scored or 0) < passage.count
    assert (found.rankings[0].truncated, found.rankings[0].shortened) == (0, 0)
    # A document of one passage has exactly the same score
    assert _score(found.documents, "short") == _score(plain.documents, "short")
    assert _passage(found.documents[-1]).count == 1
    # The passage alone has the same score as the document
    alone = client.rerank(QUERY, [FAR[passage.begin : passage.end]], timeout=60)
    assert alone.documents[0].score == found.documents[0].score

    async def rerank() -> tuple[RankedDocument, ...]:
        async with AsyncRerankClient(client.settings) as other:
            result = await other.rerank(QUERY, DOCUMENTS, passages={"tokens": 128, "stride": 64})
            return result.documents

    assert asyncio.run(rerank()) == found.documents

    with pytest.raises(InvalidInput, match="passages: tokens: must be at least 8"):
        client.submit(QUERY, DOCUMENTS, passages=1)


def test_a_query_that_is_split_has_the_same_passages(client: RerankClient) -> None:
    documents = [{"id": f"d{place}", "text": f"{place} {FAR[place:]}"} for place in range(4)]
    narrow = client.settings.model_copy(update={"max_pairs_per_job": 130})
    whole = client.rerank(QUERY, documents, timeout=60, passages=128)
    with RerankClient(narrow) as other:
        split = other.rerank(QUERY, documents, timeout=60, passages=128)
    # About 55 passages each are two documents in a job
    assert split.provenance.parts == 2
    assert split.documents == whole.documents
    assert split.rankings == whole.rankings
    assert split.provenance.passages == whole.provenance.passages == "128/64/max"


def test_many_queries_have_passages(stub_service: Settings) -> None:
    requests = [{"query": f"{QUERY} {n}", "candidates": [{"text": FAR}]} for n in range(6)]
    with RerankClient(stub_service) as client:
        # Each document has about 54 passages, so a job has two of them
        ids = client.submit_many(requests, pairs_per_job=120, passages=128)
        assert len(ids) == 3
        results = [client.result(each, timeout=60) for each in ids]
    documents = [ranking.documents[0] for each in results for ranking in each.rankings]
    assert all(ANSWER in FAR[_slice(_passage(each))] for each in documents)


def write(file: Path, changed: str = "") -> Path:
    lines = (
        {
            "query_id": f"q{number}",
            "query": f"{QUERY} {number}",
            "candidates": [*DOCUMENTS, {"id": "changed", "text": f"{FILLER * 100}{changed}"}],
        }
        for number in range(5)
    )
    file.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return file


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


def rescore(source: Path, environment: dict[str, str], *more: str) -> Completed:
    output = source.with_suffix(".trec")
    results = source.with_suffix(".results")
    done = rerankq(
        *("rescore", "--input", str(source), "--output", str(output), "--results", str(results)),
        *more,
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    return done


def results(source: Path) -> list[dict[str, Any]]:
    lines = source.with_suffix(".results").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(each).items() if name != "cached"}
        for each in lines
    ]


def test_a_run_names_the_passages_and_a_cache_has_them_too(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "scores.db"
    cut, cache = ("--passages", "128", "--stride", "100"), ("--cache", str(file))
    plain = write(tmp_path / "plain")
    rescore(plain, environment, *cut)
    engine = StubEngine()
    for line in results(plain):
        for each in line["documents"]:
            text = {d["id"]: d["text"] for d in DOCUMENTS}.get(each["id"])
            if text is not None:
                passage = text[_slice(Passage(**each["passage"]))]
                query = f"{QUERY} {line['query_id'][1:]}"
                assert engine.run([(query, passage)]).scores.tolist() == [each["score"]]
        assert line["documents"][0]["id"] == "far"
        assert line["provenance"]["passages"] == "128/100/max"

    # A run that fills a cache, and one that reads it, write the same
    for name, said in (("first", "0 scores found, 20 not"), ("second", "20 scores found, 0 not")):
        source = write(tmp_path / name)
        assert said in rescore(source, environment, *cut, *cache).stderr
        assert source.with_suffix(".trec").read_bytes() == plain.with_suffix(".trec").read_bytes()
        assert results(source) == results(plain)
    # Only a document that has changed is scored again
    changed, fresh = write(tmp_path / "changed", "new"), write(tmp_path / "fresh", "new")
    assert "15 scores found, 5 not" in rescore(changed, environment, *cut, *cache).stderr
    rescore(fresh, environment, *cut)
    assert results(changed) == results(fresh)
    # Other passages, or none, have no scores there
    for index, other in enumerate((["--passages", "128"], [])):
        source = write(tmp_path / f"other{index}")
        assert "0 scores found, 20 not" in rescore(source, environment, *other, *cache).stderr
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        kept = database.execute("SELECT count(*) FROM passages").fetchone()
    assert kept == (20 + 5 + 20,)


def compare(source: Path, environment: dict[str, str], *more: str) -> dict[str, Any]:
    done = rerankq("compare", "--input", str(source), *more, "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    return said


def test_a_comparison_shows_what_passages_change(
    environment: dict[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path / "in")
    cut = ("--passages", "128")
    # A model with itself: the best document is another one
    said = compare(source, environment, "--model", STUB, *cut)
    assert (said["a"]["passages"], said["b"]["passages"]) == (None, "128/64/max")
    assert (said["same_best"], said["pairs"]) == (0, 20)
    # Two models, and the two of a cascade, all with passages
    said = compare(source, environment, "--model", STUB, "--model", SECOND, *cut)
    assert (said["a"]["passages"], said["b"]["passages"]) == ("128/64/max", "128/64/max")
    assert said["same_best"] == 1
    said = compare(source, environment, "--model", STUB, "--cascade", f"{SECOND}:1", *cut)
    assert [each["passages"] for each in (said["a"], *said["b"]["passes"])] == ["128/64/max"] * 3
    assert said["same_best"] == 1
    done = rerankq(
        *("compare", "--input", str(source), "--model", STUB, *cut), environment=environment
    )
    assert f"A  {STUB}\nB  {STUB}, passages 128/64/max\n" in done.stdout
    assert "not read; rescore --passages" in done.stderr  # of A alone
    assert done.stderr.count("not read") == 1


def test_what_was_not_read_is_reported_with_a_way_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = rescore(write(tmp_path / "in"), environment)
    assert re.search(
        r"truncated 10 pairs to the model's maximum length: about [\d,]+ tokens, 7\d% of them, were"
        r" not read; rescore --passages TOKENS reads long documents in full",
        done.stderr,
    )
    done = rescore(write(tmp_path / "in"), environment, "--passages", "64")
    assert "not read" not in done.stderr
    done = rescore(write(tmp_path / "in"), environment, "--passages", "600")
    assert "cut 10 documents into passages of less than 600 tokens" in done.stderr
    done = rescore(write(tmp_path / "in"), environment, "--passages", "64", "--aggregate", "first")
    assert re.search(r"15 pairs with text that no passage has.* were not read", done.stderr)


def test_options_that_contradict_each_other_are_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path / "in")
    asked = ("rescore", "--input", str(source), "--output", str(tmp_path / "out"))
    done = rerankq(*asked, "--stride", "64", environment=environment)
    assert (done.returncode, done.stderr) == (
        2,
        "Error: --stride and --aggregate have no effect without --passages\n",
    )
    done = rerankq(*asked, "--passages", "64", "--stride", "65", environment=environment)
    assert done.returncode == 2
    assert "stride must be at most tokens (64)" in done.stderr


def test_submit_shows_the_passage_of_each_document(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in DOCUMENTS))
    asked = ("submit", "--query", QUERY, "--documents", str(file), "--wait", "60")
    done = rerankq(*asked, "--passages", "128", environment=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"far +\d\d/\d\d, 1\d{4}-1\d{4}", done.stdout), done.stdout
    done = rerankq(*asked, "--passages", "128", "--json", environment=environment)
    (ranking,) = json.loads(done.stdout)["rankings"]
    assert set(ranking["documents"][0]["passage"]) == {"index", "begin", "end", "count"}
    done = rerankq(*asked, "--json", environment=environment)
    assert "passage" not in json.loads(done.stdout)["rankings"][0]["documents"][0]


def _passage(document: RankedDocument) -> Passage:
    assert document.passage is not None
    return document.passage


def _slice(passage: Passage) -> slice:
    return slice(passage.begin, passage.end)


def _score(documents: tuple[RankedDocument, ...], document_id: str) -> float:
    (score,) = [each.score for each in documents if each.id == document_id]
    return score
