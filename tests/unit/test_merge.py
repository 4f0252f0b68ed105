"""Only complete and unchanged parts of one run are merged, and the reason is named otherwise."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.output_locks import OutputLock
from producer.files.outputs import OutputFile
from producer.formats.records import InvalidLines
from producer.rescore import merge, output_files, parts
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.resume import ResumableJournal
from producer.rescore.shards import Shard
from producer.rescore.staging import Staging
from tests.command_line import rerankq
from tests.unit.test_journal import FAILURE, ranking, result

COUNT = 3
QUERIES = 9


def write_part(
    folder: Path,
    number: int | None,
    *,
    count: int = COUNT,
    names: tuple[str, str] | None = None,
    text: str = "t",
    failed: tuple[str, ...] = (),
    model: str = "maker/model",
    max_length: int = 512,
    finish: bool = True,
    format_name: str | None = None,
    **settings: Any,
) -> Path:
    """Score a shard of the queries q0 to q8, or all, with scores that tell them apart.

    `names` are those of the output and of the results.
    """
    source = folder / "in.jsonl"
    output, results_name = (
        folder / each for each in names or (f"part{number}.trec", f"part{number}.trec.jsonl")
    )
    shard = Shard(number, count) if number else None
    candidates = [{"id": "d0", "text": text}, {"id": "d1", "text": "u"}]
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": candidates})
        for n in range(QUERIES)
    )
    source.write_text("\n".join(lines))
    asked = {"model": None, "depth": None, "top_k": None, "allow_downgrade": True} | settings
    scoring = ScoringSettings(**asked, shard=str(shard) if shard else None)
    with Staging(Settings.load(), InvalidLines(), shard=shard) as staging:
        staging.load_requests(str(source))
        wanted = Manifest.new(staging.inputs(), scoring, 2)
        with ResumableJournal(str(output), staging, wanted) as journal:
            journal.begin()
            for query in staging.query_ids():
                if query in failed:
                    journal.add_failure([query], FAILURE)
                    continue
                made = result(ranking(query, [float(query[1:]) + 1, 0.5]), model=model)
                source_ = made.provenance.model_copy(update={"max_length": max_length})
                journal.add_result(made.model_copy(update={"provenance": source_}))
            if finish:
                with (
                    OutputFile(str(output)) as run,
                    OutputFile(str(results_name)) as results,
                ):
                    output_files.write(journal, journal.progress(), format_name, run, results)
                if not failed:
                    journal.remove()
    return output


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all parts of a run."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(1, COUNT + 1):
        write_part(folder, number)
    return folder


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder with all parts."""
    return shutil.copytree(complete, tmp_path / "parts")


def names(folder: Path) -> list[str]:
    return [str(folder / f"part{number}.trec") for number in range(1, COUNT + 1)]


def load(*names: str) -> None:
    parts.check_contents(parts.load(names, with_results=True))


def test_the_parts_are_merged_in_the_order_of_the_input(folder: Path) -> None:
    output, results = folder / "merged.trec", folder / "merged.jsonl"
    done = rerankq(
        *("merge", *names(folder), "--output", str(output), "--results", str(results)),
        environment={},
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"merged 3 shards with 9 ranked queries; wrote {output} and {results}" in done.stderr
    lines = [line.split() for line in output.read_text().splitlines()]
    assert [line[0] for line in lines] == [f"q{n}" for n in range(QUERIES) for _ in range(2)]
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert [each["query_id"] for each in found] == [f"q{n}" for n in range(QUERIES)]


@pytest.mark.parametrize(
    ("name", "results", "format_name"),
    [
        ("out.trec", "results.jsonl.gz", None),
        ("out.trec.zst", "results.jsonl", None),
        ("out.tsv.xz", "results.parquet", "msmarco"),
        ("out.parquet", "results.jsonl.bz2", None),
        ("out.json.gz", "results.jsonl", "rank_llm"),
        ("out.jsonl", "results.jsonl.zst", "batch"),
    ],
)
@pytest.mark.parametrize("failed", [(), ("q0", "q4", "q8")])
def test_merged_files_are_those_of_one_run_to_the_byte(
    tmp_path: Path, name: str, results: str, format_name: str | None, failed: tuple[str, ...]
) -> None:
    chosen: dict[str, Any] = {"names": (name, results), "format_name": format_name}
    whole = tmp_path / "whole"
    whole.mkdir()
    write_part(whole, None, failed=failed, **chosen)
    made = []
    for number in range(1, COUNT + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        of_part = tuple(query for query in failed if Shard(number, COUNT).has(query))
        made.append(str(write_part(folder, number, failed=of_part, **chosen)))

    merged = tmp_path / "merged"
    merged.mkdir()
    done = rerankq(
        *("merge", *reversed(made), "--output", str(merged / name)),
        *("--results", str(merged / results)),
        environment={},
    )

    assert done.returncode == (3 if failed else 0), done.stderr
    assert (merged / name).read_bytes() == (whole / name).read_bytes()
    assert (merged / results).read_bytes() == (whole / results).read_bytes()
    assert {each.name for each in merged.iterdir()} == {name, results}


def test_the_files_of_parts_can_be_moved_together(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "moved")
    load(*names(moved))


def test_a_failed_query_is_reported_as_by_the_whole_run(folder: Path) -> None:
    failed = next(f"q{n}" for n in range(QUERIES) if Shard(2, COUNT).has(f"q{n}"))
    write_part(folder, 2, failed=(failed,))
    output, results = folder / "merged.trec", folder / "merged.jsonl"

    done = rerankq(
        *("merge", *names(folder), "--output", str(output), "--results", str(results)),
        environment={},
    )

    assert done.returncode == 3, done.stderr
    assert "1 query failed: bad_scores (1); first failure: NaN: ü" in done.stderr
    assert f"{failed} " not in output.read_text()
    assert results.read_text().count('"error"') == 1
    assert len(results.read_text().splitlines()) == QUERIES


def test_a_run_whose_queries_have_all_failed_has_no_output(tmp_path: Path) -> None:
    all_queries = tuple(f"q{n}" for n in range(QUERIES))
    for number in range(1, COUNT + 1):
        write_part(tmp_path, number, failed=all_queries)
    output = tmp_path / "merged.trec"
    done = rerankq("merge", *names(tmp_path), "--output", str(output), environment={})
    assert done.returncode == 1, done.stderr
    assert not output.exists()


# Parts that are refused


def lacks_one(folder: Path) -> list[str]:
    return names(folder)[:2]


def has_one_twice(folder: Path) -> list[str]:
    return [*names(folder), str(shutil.copy(folder / "part2.trec", folder / "again.trec"))]


def has_a_copy_with_its_record(folder: Path) -> list[str]:
    shutil.copy(folder / "part2.trec.shard.jsonl", folder / "again.trec.shard.jsonl")
    return has_one_twice(folder)


def is_of_another_count(folder: Path) -> list[str]:
    write_part(folder, 3, count=4)
    return names(folder)


def has_another_text(folder: Path) -> list[str]:
    write_part(folder, 3, text="another text")
    return names(folder)


def is_of_another_top_k(folder: Path) -> list[str]:
    write_part(folder, 3, top_k=2)
    return names(folder)


def is_of_another_model(folder: Path) -> list[str]:
    write_part(folder, 3, model="maker/other")
    return names(folder)


def is_of_another_length(folder: Path) -> list[str]:
    write_part(folder, 3, max_length=256)
    return names(folder)


def is_not_complete(folder: Path) -> list[str]:
    write_part(folder, 3, finish=False)
    return names(folder)


def has_lost_its_record(folder: Path) -> list[str]:
    (folder / "part3.trec.shard.jsonl").unlink()
    return names(folder)


def has_a_journal(folder: Path) -> list[str]:
    (folder / "part3.trec.partial.jsonl").touch()
    return names(folder)


def has_changed(folder: Path) -> list[str]:
    text = (folder / "part3.trec").read_text()
    (folder / "part3.trec").write_text(text.replace("d0", "d9"))
    return names(folder)


def has_lost_its_results(folder: Path) -> list[str]:
    (folder / "part3.trec.jsonl").unlink()
    return names(folder)


def is_a_device(folder: Path) -> list[str]:
    return [*lacks_one(folder), "/dev/null"]


def is_no_record(folder: Path) -> list[str]:
    (folder / "part3.trec.shard.jsonl").write_text("[1,2]\n")
    return names(folder)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lacks_one, "1 shard of 3 not given: 3"),
        (has_one_twice, r"again.trec: there is no again.trec.shard.jsonl next to it"),
        (has_a_copy_with_its_record, r"again.trec are both shard 2 of 3"),
        (is_of_another_count, r"part3.trec is shard 3 of 4, but .*part1.trec is shard 1 of 3"),
        (has_another_text, r"part3.trec differs from .*part1.trec in the run; merge"),
        (is_of_another_top_k, r"part3.trec differs from .* in --top-k \(not given -> 2\)"),
        (is_of_another_model, r"differs from .* in the model \(maker/model -> maker/other\)"),
        (is_of_another_length, r"in the maximum length of maker/model \(512 -> 256\)"),
        (is_not_complete, r"part3.trec: its run is not complete, because there is .*manifest.json"),
        (has_lost_its_record, r"part3.trec: there is no part3.trec.shard.jsonl next to it"),
        (has_a_journal, r"part3.trec: its run is not complete, because there is .*partial.jsonl"),
        (has_changed, r"part3.trec: changed after its shard wrote it"),
        (has_lost_its_results, r"part3.trec.jsonl: No such file or directory"),
        (is_a_device, r"/dev/null: a part must be a regular file"),
        (is_no_record, r"part3.trec.shard.jsonl: not the record of a shard of this version"),
    ],
)
def test_anything_else_than_all_parts_of_one_run_is_refused(
    folder: Path, given: Callable[[Path], list[str]], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        load(*given(folder))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("part2.trec", "--output .*part2.trec and PART .*part2.trec are the same file"),
        ("part2.trec.shard.jsonl", "and the record of PART .* are the same file"),
        ("merged.parquet", "merged.parquet: the parts are not Parquet"),
        ("no/merged.trec", "its directory does not exist"),
    ],
)
def test_an_output_that_would_replace_a_part_is_refused(
    folder: Path, output: str, reason: str
) -> None:
    before = {each: each.read_bytes() for each in folder.iterdir()}
    done = rerankq("merge", *names(folder), "--output", str(folder / output), environment={})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(reason, done.stderr)
    assert {each: each.read_bytes() for each in folder.iterdir()} == before


def test_a_part_that_is_not_as_its_record_says_leaves_the_output_as_it_was(folder: Path) -> None:
    # Given a record with fewer documents of a query than its part has
    record = folder / "part1.trec.shard.jsonl"
    record.write_text(record.read_text().removesuffix("2]\n") + "1]\n")
    found = parts.load(names(folder), with_results=False)

    with (
        OutputFile(str(folder / "merged.trec")) as output,
        pytest.raises(InvalidInput, match=r"part1.trec: its records are not those of its shard"),
    ):
        merge.write(found, output)
    assert not (folder / "merged.trec").exists()


@pytest.mark.parametrize("line", ["[1,2]\n", "[99,-1]\n", "[99]\n", "99\n", "[99,2", "\n"])
def test_a_damaged_record_is_named(folder: Path, line: str) -> None:
    record = folder / "part1.trec.shard.jsonl"
    record.write_text(record.read_text() + line)
    found = parts.load(names(folder), with_results=False)
    with (
        OutputFile(str(folder / "merged.trec")) as output,
        pytest.raises(InvalidInput, match=r"part1.trec.shard.jsonl: damaged"),
    ):
        merge.write(found, output)


def test_an_output_that_another_process_writes_is_refused(folder: Path) -> None:
    output, results = str(folder / "merged.trec"), str(folder / "merged.jsonl")
    for locked in (output, results):
        with OutputLock(locked):
            done = rerankq(
                *("merge", *names(folder), "--output", output, "--results", results), environment={}
            )
        assert done.returncode == 2, done.stderr
        assert f"Error: {locked}: another rerankq process is writing this file: " in done.stderr
        assert not Path(output).exists()


def test_a_new_run_to_a_part_takes_its_record_away(folder: Path) -> None:
    write_part(folder, 1, finish=False)
    assert not (folder / "part1.trec.shard.jsonl").exists()


def test_another_shard_does_not_continue_a_run(folder: Path) -> None:
    write_part(folder, 1, finish=False)
    (folder / "part1.trec.partial.jsonl").rename(folder / "part2.trec.partial.jsonl")
    (folder / "part1.trec.manifest.json").rename(folder / "part2.trec.manifest.json")
    with pytest.raises(InvalidInput, match=r"differs in --shard \(1/3 -> 2/3\); pass --restart"):
        write_part(folder, 2)
