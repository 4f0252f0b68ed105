"""The shards of a run, scored by several commands and merged, give the files of one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.acceptance.conftest import SAMPLE, environment_of
from tests.command_line import Completed, rerankq

PACKAGES = (
    *("--corpus", str(SAMPLE / "corpus.jsonl")),
    *("--queries", str(SAMPLE / "queries.jsonl")),
    *("--run", str(SAMPLE / "bm25.trec")),
)
COUNT = 3

#: Runs a command with a name of its output, and other options.
Rescore = Callable[..., Completed]


@pytest.fixture(scope="module")
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


@pytest.fixture(scope="module")
def rescore(environment: dict[str, str]) -> Rescore:
    def run(output: Path, *options: str, code: int = 0) -> Completed:
        arguments = ("rescore", *PACKAGES, "--depth", "4", "--output", str(output), *options)
        done = rerankq(*arguments, environment=environment)
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def merge(environment: dict[str, str]) -> Callable[..., Completed]:
    def run(*arguments: object) -> Completed:
        return rerankq("merge", *map(str, arguments), environment=environment)

    return run


@pytest.mark.parametrize(
    ("name", "results", "options"),
    [
        ("out.trec", "results.jsonl.gz", ()),
        ("out.trec.zst", "results.jsonl", ("--top-k", "2")),
        ("out.tsv", "results.parquet", ("--format", "msmarco")),
        ("out.parquet", "results.jsonl.xz", ()),
        ("out.json.gz", "results.jsonl.bz2", ("--format", "rank_llm")),
    ],
)
def test_merged_shards_are_one_run_to_the_byte(
    rescore: Rescore,
    merge: Callable[..., Completed],
    tmp_path: Path,
    name: str,
    results: str,
    options: tuple[str, ...],
) -> None:
    # Given a run, and its shards
    rescore(tmp_path / name, "--results", str(tmp_path / results), *options)
    parts = []
    for number in range(1, COUNT + 1):
        parts.append(tmp_path / str(number) / name)
        parts[-1].parent.mkdir()
        done = rescore(
            *(parts[-1], "--results", str(parts[-1].parent / results)),
            *("--shard", f"{number}/{COUNT}", *options),
        )
        assert f"shard {number} of {COUNT}: " in done.stderr

    # When the shards are merged in any order
    merged = tmp_path / "merged"
    merged.mkdir()
    done = merge(*reversed(parts), "--output", merged / name, "--results", merged / results)

    # Then the files are the same
    assert done.returncode == 0, done.stderr
    assert (merged / name).read_bytes() == (tmp_path / name).read_bytes()
    assert (merged / results).read_bytes() == (tmp_path / results).read_bytes()
    assert {each.name for each in merged.iterdir()} == {name, results}
