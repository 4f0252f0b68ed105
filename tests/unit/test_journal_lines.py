"""The lines of the results are exactly the JSON of the records, for results of any form."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from pydantic_core import from_json

from contract import jobs
from contract.columns import ResultColumns
from contract.results import relevance
from producer.rescore import journal_lines
from tests.unit.test_journal import result

IDS = ["d1", "\u65e5\u672c", 'a"b\\c', "\u2028", "tab\tnull\u0001", "\U0001f600", "d/1"]
SCORES = [
    0.0,
    -0.0,
    1 / 3,
    0.0001,
    0.000015,
    -7.25,
    1e22,
    1e16,
    123456789012345680.0,
    5e-324,
    -1e300,
    3.0,
]
METADATA: list[dict[str, Any] | None] = [
    None,
    {},
    {"a": [None, 1.0, 1e22, True, {"\u00fc": "\u2028\u65e5"}], "n": None, "big": 2**70},
]


def random_result(chance: random.Random) -> jobs.JobResult:
    rankings = []
    for number in range(chance.randint(1, 5)):
        scores = sorted(chance.choices(SCORES, k=chance.randint(1, 8)), reverse=True)
        rankings.append(
            jobs.Ranking(
                query_id=f"q\u00e9{number}",
                truncated=chance.randint(0, 3),
                documents=tuple(
                    jobs.RankedDocument(
                        id=chance.choice(IDS) + str(rank),
                        index=chance.randint(0, 99),
                        rank=rank,
                        score=score,
                        relevance=relevance(score),
                        metadata=chance.choice(METADATA),
                    )
                    for rank, score in enumerate(scores, start=1)
                ),
            )
        )
    return result(*rankings)


@pytest.mark.parametrize("seed", range(20))
def test_columns_and_records_give_the_json_of_the_records(seed: int) -> None:
    made = random_result(random.Random(seed))
    expected = [
        {
            "query_id": each.query_id,
            "documents": [document.model_dump(exclude_none=True) for document in each.documents],
            "truncated": each.truncated,
        }
        for each in made.rankings
    ]
    for form in (made, ResultColumns.of(made)):
        lines = list(journal_lines.of_result(form))
        for line, wanted in zip(lines, expected, strict=True):
            parsed = from_json(line.text)
            source = parsed["provenance"]
            whole = json.dumps({**wanted, "provenance": source}, ensure_ascii=False)
            assert journal_lines.result_line(parsed) == f"{whole}\n".encode()
            # A journal of an earlier version has this line.
            assert journal_lines.result_line(json.loads(whole)) == f"{whole}\n".encode()
            assert line.head == {
                "query_id": wanted["query_id"],
                "truncated": wanted["truncated"],
                "provenance": source,
            }


@pytest.mark.parametrize("seed", range(20))
def test_a_run_has_the_scores_of_the_lines_to_the_last_digit(seed: int) -> None:
    for line in journal_lines.of_result(random_result(random.Random(seed))):
        parsed = from_json(line.text)
        earlier = json.loads(journal_lines.result_line(parsed))
        expected = [
            f"{parsed['query_id']} Q0 {each['id']} {each['rank']} {each['score']!r} rerankq-model"
            for each in earlier["documents"]
        ]
        for form in (parsed, earlier):
            assert journal_lines.run_lines(form).decode().split("\n")[:-1] == expected
