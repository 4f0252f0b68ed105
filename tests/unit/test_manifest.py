"""A run that would be scored differently from the one before is refused, and no other run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.jobs import JOB_ID
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore.manifest import (
    InputDigests,
    Manifest,
    Round,
    ScoringSettings,
    digest,
    digest_of_texts,
)
from producer.rescore.staging import Staging

ASKED: dict[str, Any] = {"model": None, "depth": None, "top_k": None, "allow_downgrade": True}
INPUTS = InputDigests(queries="q", candidates="c", documents="d")

FILES = {
    "run": "q2 Q0 d1 1 5 t\nq2 Q0 d2 2 4 t\nq1 Q0 d2 1 1 t\n",
    "queries": "q1\tquery one\nq2\tquery two\nq9\tnot in the run\n",
    "corpus": "d1\tone\nd2\ttwo\nd9\tnot in the run\n",
}


def manifest(inputs: InputDigests = INPUTS, **asked: Any) -> Manifest:
    return Manifest.new(inputs, ScoringSettings(**ASKED | asked), pairs_per_job=100)


def inputs(
    folder: Path, files: dict[str, str] | None = None, depth: int | None = None
) -> InputDigests:
    for name, content in (FILES | (files or {})).items():
        (folder / name).write_text(content)
    with Staging(Settings.load(), InvalidLines(), depth) as staging:
        staging.load_run(*(str(folder / name) for name in ("run", "queries", "corpus")))
        return staging.inputs()


def differing(a: InputDigests, b: InputDigests) -> set[str]:
    return {name for name in InputDigests.model_fields if getattr(a, name) != getattr(b, name)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"queries": FILES["queries"].replace("one", "1")}, {"queries"}, id="a query"),
        pytest.param({"corpus": FILES["corpus"].replace("two", "2")}, {"documents"}, id="a text"),
        pytest.param({"run": FILES["run"].replace("5", "6")}, {"candidates"}, id="a score"),
        pytest.param({"run": FILES["run"].replace("5", "3")}, {"candidates"}, id="the order"),
        pytest.param({"run": FILES["run"].replace(" t", "\tu")}, set(), id="the tag"),
        pytest.param({"queries": FILES["queries"] + "q8\tx\n"}, set(), id="a query not in the run"),
        pytest.param({"corpus": "d8\tx\n" + FILES["corpus"]}, set(), id="a document nobody wants"),
    ],
)
def test_inputs_differ_where_a_job_would(
    tmp_path: Path, files: dict[str, str], expected: set[str]
) -> None:
    assert differing(inputs(tmp_path), inputs(tmp_path, files)) == expected


def test_what_lies_below_the_depth_makes_no_difference(tmp_path: Path) -> None:
    changed = {"run": FILES["run"].replace("4", "3")}
    whole = differing(inputs(tmp_path), inputs(tmp_path, changed))
    cut = differing(inputs(tmp_path, depth=1), inputs(tmp_path, changed, depth=1))
    assert (whole, cut) == ({"candidates"}, set())


def test_texts_and_metadata_of_request_lines_are_of_the_run(tmp_path: Path) -> None:
    def digests_of(**candidate: Any) -> InputDigests:
        line = {"query_id": "q", "query": "q", "candidates": [{"id": "d", "text": "t"} | candidate]}
        (tmp_path / "in").write_text(json.dumps(line))
        with Staging(Settings.load(), InvalidLines()) as staging:
            staging.load_requests(str(tmp_path / "in"))
            return staging.inputs()

    assert differing(digests_of(), digests_of(text="u")) == {"candidates"}
    assert differing(digests_of(), digests_of(metadata={"a": 1})) == {"candidates"}
    assert differing(digests_of(), digests_of()) == set()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "bundled"}, "--model (not given -> bundled)"),
        ({"top_k": 10}, "--top-k (not given -> 10)"),
        ({"depth": 5}, "--depth (not given -> 5)"),
        ({"passages": "64/32/max"}, "--passages (not given -> 64/32/max)"),
        ({"allow_downgrade": False}, "downgrades (allowed -> not allowed)"),
        ({"depth": 5, "top_k": 3}, "--depth (not given -> 5), --top-k (not given -> 3)"),
    ],
)
def test_another_setting_is_named_with_both_its_values(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        manifest().check_same(manifest(**asked), Path("out.manifest.json"))
    assert f"out.manifest.json: the earlier run differs in {said}; pass --restart" in str(
        refused.value
    )


def test_another_input_is_named() -> None:
    other = InputDigests(queries="x", candidates="y", documents="z")
    with pytest.raises(InvalidInput, match="differs in the queries, the run, the documents; "):
        manifest().check_same(manifest(other), Path("m"))


def test_what_another_depth_takes_is_not_named_as_well() -> None:
    other = InputDigests(queries="q", candidates="y", documents="z")
    with pytest.raises(InvalidInput, match=r"differs in --depth \(not given -> 1\); "):
        manifest().check_same(manifest(other, depth=1), Path("m"))


def test_a_manifest_is_read_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "m"
    assert Manifest.load(path) is None
    saved = manifest(top_k=3).model_copy(update={"round": Round(begins_at=7, retry=("failed",))})
    saved.save(path)
    assert Manifest.load(path) == saved
    assert list(tmp_path.iterdir()) == [path]


def test_the_names_in_the_file_are_those_of_earlier_versions(tmp_path: Path) -> None:
    path = tmp_path / "m"
    saved = manifest(top_k=3).model_copy(update={"round": Round(begins_at=7, retry=("failed",))})
    saved.save(path)
    written = json.loads(path.read_text())
    assert (written["asked"]["top_k"], written["round"]["redo"]) == (3, ["failed"])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', "{}"])
def test_what_is_no_manifest_is_refused_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=r"m: not a manifest of this version .*--restart"):
        Manifest.load(path)


def test_the_id_of_a_job_is_that_of_its_run_round_and_queries() -> None:
    one = manifest()
    again = one.model_copy(update={"round": Round(begins_at=7, retry=("failed",))})
    ids = [
        one.job_id(["q1", "q2"]),
        one.job_id(["q1"]),
        one.job_id(["q1,q2"]),
        again.job_id(["q1", "q2"]),
        manifest().job_id(["q1", "q2"]),
    ]
    assert one.job_id(["q1", "q2"]) == ids[0]
    assert len(set(ids)) == len(ids)
    assert all(JOB_ID.fullmatch(each) for each in ids)


def test_the_digest_of_texts_is_that_of_their_rows() -> None:
    rows = [("d1", "text"), ("\u65e5", 'a "quote"\\'), ("d2", "\u2028\u0000\U0001f600"), ("", "")]
    rows += [(f"c{code}", f"a{chr(code)}") for code in range(256)]
    assert digest_of_texts(rows) == digest(rows)
