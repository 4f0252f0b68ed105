"""The shards of a run are its queries, each in one shard, in the order of the input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore import session
from producer.rescore.options import Options
from producer.rescore.shards import Shard
from producer.rescore.staging import Staging

#: The queries of this run are in three places each, and mixed.
RUN = [f"q{query} Q0 d{query} {rank} {9 - rank} t\n" for rank in (1, 2, 3) for query in range(9)]
RUN = [line.replace(f" d{n} ", f" d{n}-{line.split()[3]} ") for line in RUN for n in [line[1]]]
QUERIES = [f"q{query}\tquery {query}\n" for query in (*range(9), 77)]
CORPUS = [f"d{query}-{rank}\ttext {query}\n" for query in range(10) for rank in (1, 2, 3)]
COUNT = 4


@contextmanager
def staged(
    folder: Path, shard: str | None, run: list[str] = RUN, corpus: list[str] = CORPUS
) -> Iterator[Staging]:
    for name, lines in {"run": run, "queries": QUERIES, "corpus": corpus}.items():
        (folder / name).write_text("".join(lines))
    bad = InvalidLines()
    with Staging(Settings.load(), bad, shard=Shard.parse(shard) if shard else None) as staging:
        staging.load_run(*(str(folder / name) for name in ("run", "queries", "corpus")))
        yield staging


def places(staging: Staging) -> list[tuple[int, str]]:
    return list(staging.database.execute("SELECT seq, id FROM queries ORDER BY seq"))


# Names of shards


@pytest.mark.parametrize(("text", "number", "count"), [("1/1", 1, 1), ("3/16", 3, 16)])
def test_a_shard_has_a_number_from_one(text: str, number: int, count: int) -> None:
    shard = Shard.parse(text)
    assert (shard.number, shard.count, str(shard)) == (number, count, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/16", "the shards of this run are 1 to 16; the first shard is 1"),
        ("17/16", "the shards of this run are 1 to 16"),
        ("3/0", "a run has 1 to 1,000 shards"),
        ("1/1001", "a run has 1 to 1,000 shards"),
        ("3/16 ", "is not a shard; pass its number and the number of all shards, such as 3/16"),
        *(
            (text, "is not a shard")
            for text in ("", "3", "-1/4", "3/16/2", "1.0/2", "٣/٤", "3\n/4")
        ),
    ],
)
def test_any_other_shard_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Shard.parse(text)


def test_the_shard_of_a_query_is_the_same_on_every_machine_and_in_every_version() -> None:
    found = {
        query: next(n for n in range(1, 17) if Shard(n, 16).has(query))
        for query in ("q1", "q2", "1048585", "Überschrift", "日本語")
    }
    assert found == {"q1": 9, "q2": 11, "1048585": 9, "Überschrift": 5, "日本語": 9}


def test_each_query_is_in_one_shard_and_shards_are_of_similar_size() -> None:
    sizes = [sum(Shard(n, 8).has(f"q{query}") for query in range(8_000)) for n in range(1, 9)]
    assert sum(sizes) == 8_000
    assert 900 < min(sizes) <= max(sizes) < 1_100


# Queries and documents that are staged


def test_a_shard_has_its_queries_with_their_places_in_the_whole_run(tmp_path: Path) -> None:
    with staged(tmp_path, None) as whole:
        expected = places(whole)
        requests = {each.query_id: each for each in whole.requests(None)}
    found = []
    for number in range(1, COUNT + 1):
        with staged(tmp_path, f"{number}/{COUNT}") as shard:
            found += places(shard)
            for each in shard.requests(None):
                assert requests.pop(each.query_id) == each
    assert sorted(found) == expected
    assert requests == {}


def test_a_shard_has_only_the_documents_of_its_candidates(tmp_path: Path) -> None:
    with staged(tmp_path, "1/4") as shard:
        counts, found = shard.counts(), shard.load_report
        (documents,) = shard.database.execute("SELECT count(*) FROM documents").fetchone()
    assert counts.documents == documents == 3 * counts.queries > 0
    assert found.documents == len(CORPUS)


def test_all_shards_of_a_run_have_the_same_digests_of_the_input(tmp_path: Path) -> None:
    digests = set()
    for number in range(1, COUNT + 1):
        with staged(tmp_path, f"{number}/{COUNT}") as shard:
            digests.add(shard.whole_inputs())
    assert len(digests) == 1

    # Another text differs even if the shard does not have it.
    changed = [line.replace("text 9", "another text") for line in CORPUS]
    with staged(tmp_path, "1/4", corpus=changed) as shard:
        assert shard.whole_inputs().candidates == digests.copy().pop().candidates
        assert shard.whole_inputs().documents != digests.pop().documents


def test_all_shards_of_a_run_and_no_others_share_their_turns(tmp_path: Path) -> None:
    def group(shard: str | None, *, corpus: list[str] = CORPUS, **options: Any) -> str | None:
        with staged(tmp_path, shard, corpus=corpus) as staging:
            return session.group_of_shards(staging, Options(**options), None, None)

    of_run = {group(f"{number}/{COUNT}") for number in range(1, COUNT + 1)}
    assert len(of_run) == 1
    others = group("1/8"), group("1/4", model="another"), group("1/4", corpus=CORPUS[::-1])
    assert len({*of_run, *others}) == 4
    assert group(None) is None


def test_a_shard_of_few_queries_may_be_empty(tmp_path: Path) -> None:
    sizes = []
    for number in range(1, 41):
        with staged(tmp_path, f"{number}/40") as shard:
            sizes.append(shard.counts().queries)
    assert sum(sizes) == 9
    assert 0 in sizes


def test_files_that_do_not_match_are_refused_by_a_shard_too(tmp_path: Path) -> None:
    lacking = [line for line in CORPUS if not line.startswith("d3-2")]
    (number,) = (n for n in range(1, COUNT + 1) if Shard(n, COUNT).has("q3"))
    with (
        pytest.raises(InvalidInput, match=r"1 document not in .*: d3-2; that file has ids such as"),
        staged(tmp_path, f"{number}/{COUNT}", corpus=lacking),
    ):
        pass


def test_a_shard_of_request_lines_has_their_places(tmp_path: Path) -> None:
    candidates = [{"id": "d", "text": "t"}]
    lines = [json.dumps({"query": f"query {n}", "candidates": candidates}) for n in range(1, 9)]
    source = tmp_path / "in.jsonl"
    source.write_text("\n\n".join(lines))
    found = []
    for number in (1, 2):
        with Staging(Settings.load(), InvalidLines(), shard=Shard(number, 2)) as shard:
            shard.load_requests(str(source))
            found += places(shard)
            assert 0 < shard.counts().queries < 8
    assert sorted(found) == [(line, str(line)) for line in range(1, 16, 2)]


def test_judgments_of_a_shard_are_those_of_its_queries(tmp_path: Path) -> None:
    qrels = tmp_path / "qrels"
    qrels.write_text("".join(f"q{query} 0 d{query}-1 1\n" for query in range(9)))
    judged = 0
    for number in range(1, 41):
        with staged(tmp_path, f"{number}/40") as shard:
            shard.load_qrels(str(qrels))
            assert shard.judged_queries() == shard.counts().queries
            judged += shard.judged_queries()
    assert judged == 9
