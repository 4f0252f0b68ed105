"""The small model of a cascade is named with any colons, and the scales of both never mix."""

from __future__ import annotations

from typing import Any

import pytest

from contract.errors import InvalidInput
from producer.rescore import journal_lines
from producer.rescore.comparison import check_models
from producer.rescore.options import KEEP, Cascade


@pytest.mark.parametrize(
    ("text", "model", "keep"),
    [
        ("bundled", "bundled", KEEP),
        ("bundled:1", "bundled", 1),
        ("org/name:50", "org/name", 50),
        ("org/name@v1.0:50", "org/name@v1.0", 50),
        ("org/name@v1.0", "org/name@v1.0", KEEP),
        (r"C:\models\small", r"C:\models\small", KEEP),
        (r"C:\models\small:50", r"C:\models\small", 50),
        ("/srv/models/small:50:7", "/srv/models/small:50", 7),
        ("stub:scale=2", "stub:scale=2", KEEP),
        ("stub:scale=2;instant=1:20", "stub:scale=2;instant=1", 20),
    ],
)
def test_a_number_after_the_last_colon_is_the_number_of_documents(
    text: str, model: str, keep: int
) -> None:
    assert Cascade.parse(text) == Cascade(model, keep)
    assert Cascade.parse(str(Cascade.parse(text))) == Cascade(model, keep)


@pytest.mark.parametrize("text", ["", "bundled:0", "bundled:0000", "bundled:" + "9" * 30])
def test_a_number_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not MODEL:KEEP with a KEEP from 1 to 1,000,000,000"):
        Cascade.parse(text)


def test_a_comparison_with_a_cascade_has_one_model() -> None:
    assert check_models(["large"], Cascade("small")) == ("large", "small")
    with pytest.raises(InvalidInput, match=r"pass --model once, .* \(found 2\)"):
        check_models(["large", "other"], Cascade("small"))
    with pytest.raises(InvalidInput, match="names 'large', which also scores the best documents"):
        check_models(["large"], Cascade("large"))


def line(ids: str, scores: list[float], **more: Any) -> dict[str, Any]:
    return {
        "query_id": "q",
        "ids": list(ids),
        "indexes": [ord(each) - ord("a") for each in ids],
        "scores": scores,
        "truncated": 0,
        "provenance": {"model": "org/large"},
        **more,
    }


SMALL = line("dbcae", [9.0, 8.0, 7.5, 7.5, 1e-9], provenance={"model": "org/small"})
#: The large model has scored b, c and d, which are its candidates 0 to 2.
LARGE = line("cdb", [0.5, -3.0, -11.5]) | {"indexes": [1, 2, 0], "basis": 77}


def test_the_merged_line_has_both_lists_with_their_scores_and_places_in_the_input() -> None:
    merged = journal_lines.with_small_model(LARGE, SMALL, 3, None)
    assert merged["ids"] == ["c", "d", "b", "a", "e"]
    assert merged["indexes"] == [2, 3, 1, 0, 4]
    assert merged["scores"] == [0.5, -3.0, -11.5, 7.5, 1e-9]
    assert "metadata" not in merged
    assert "basis" not in merged
    assert journal_lines.run_tag(merged) == "rerankq-large+small"
    assert merged["cascade"]["rescored"] == 3


def test_the_scores_for_tools_are_in_the_order_of_the_ranks() -> None:
    merged = journal_lines.with_small_model(LARGE, SMALL, 3, None)
    scores = dict(journal_lines.scores(merged))
    assert scores == {"c": 0.5, "d": -3.0, "b": -11.5, "a": -12.5, "e": 1e-9 - 20.0}
    run = journal_lines.run_lines(merged).decode().splitlines()
    assert [row.split()[2:5] for row in run] == [
        ["c", "1", "0.5"],
        ["d", "2", "-3.0"],
        ["b", "3", "-11.5"],
        ["a", "4", "-12.5"],
        ["e", "5", "-19.999999999"],
    ]


@pytest.mark.parametrize(("top_k", "ids", "rescored"), [(1, "c", 1), (3, "cdb", 3), (4, "cdba", 3)])
def test_the_best_of_both_are_kept(top_k: int, ids: str, rescored: int) -> None:
    merged = journal_lines.with_small_model(LARGE, SMALL, 3, top_k)
    assert "".join(merged["ids"]) == ids
    assert merged["cascade"]["rescored"] == rescored
    assert len(journal_lines.scores(merged)) == top_k


def test_metadata_and_passages_follow_their_documents() -> None:
    fields = ("indexes", "begins", "ends", "counts")
    small = SMALL | {
        "metadata": [None, '{"n": 1}', None, '{"n": 0}', None],
        "passages": {name: [30, 10, 20, 0, 40] for name in fields},
    }
    large = LARGE | {"passages": {name: [21, 31, 11] for name in fields}}
    merged = journal_lines.with_small_model(large, small, 3, None)
    # A job whose documents have no metadata returns none
    assert merged["metadata"] == [None, None, None, '{"n": 0}', None]
    assert merged["passages"] == {name: [21, 31, 11, 0, 40] for name in fields}
