"""The command `rescore --cascade` with real workers, which is killed and run in shards."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from producer.rescore.journal import journal_path
from tests.acceptance.conftest import SAMPLE, environment_of
from tests.command_line import rerankq
from tests.processes import start, wait_until
from tests.stub_models import ABSENT, OTHER, STUB
from tests.worker_process import LOSING_NO_TIME, Worker

QUERIES, CANDIDATES, KEEP = 30, 20, 5
CASCADE = ("--cascade", f"{OTHER}:{KEEP}")


@pytest.fixture
def of_a_quick_sweeper(redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a worker that soon finds jobs that lost their message.

    A command that is killed may have stored a job and not sent its message yet.
    """
    allowed = f"{OTHER},{ABSENT}"
    settings = Settings.load(
        redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}", allowed_models=allowed
    )
    environment = environment_of(settings)
    with Worker(settings, tmp_path, environment | LOSING_NO_TIME) as worker:
        yield environment
        assert worker.alive


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    lines = (
        {
            "query_id": f"q{number}",
            "query": f"words of query {number}",
            "candidates": [
                {"id": f"d{place}", "text": f"{place} words of {number + place % 3}"}
                for place in range(CANDIDATES)
            ],
        }
        for number in range(QUERIES)
    )
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return path


def arguments(source: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (
        *("rescore", "--input", str(source), "--output", str(output)),
        *("--results", f"{output}.jsonl", *CASCADE, *more),
    )


def files(output: Path) -> tuple[bytes, bytes]:
    return output.read_bytes(), Path(f"{output}.jsonl").read_bytes()


def test_killed_in_each_pass_and_run_in_shards_the_output_is_that_of_an_undisturbed_run(
    source: Path, of_a_quick_sweeper: dict[str, str], tmp_path: Path
) -> None:
    environment = of_a_quick_sweeper
    # Given an undisturbed run
    whole, killed = tmp_path / "whole.trec", tmp_path / "killed.trec"
    done = rerankq(*arguments(source, whole), environment=environment)
    assert done.returncode == 0, done.stderr
    assert f"scored {QUERIES * CANDIDATES} pairs" in done.stderr
    assert f"scored {QUERIES * KEEP} pairs" in done.stderr

    # When the same run is killed in each pass
    first, second = journal_path(f"{killed}.cascade"), journal_path(str(killed))
    each_query = ("--pairs-per-job", "1", "--window", "1")
    for journal in (first, second):
        before = journal.stat().st_size if journal.exists() else 0
        with (tmp_path / "log").open("w") as log:
            process = start(
                "producer",
                *arguments(source, killed, *each_query),
                environment=environment,
                log=log,
            )
        wait_until(
            lambda path=journal, size=before: path.exists() and path.stat().st_size > size,  # type: ignore[misc]
            "more results",
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not killed.exists()
    done = rerankq(*arguments(source, killed), environment=environment)
    assert done.returncode == 0, done.stderr
    # Then it continues with the second pass, and no file is left of either
    assert f"1 of 2, {OTHER}: resuming: {QUERIES} of {QUERIES} queries are done" in done.stderr
    assert files(killed) == files(whole)
    assert sorted(each.name for each in tmp_path.glob("killed*")) == [
        "killed.trec",
        "killed.trec.jsonl",
    ]

    # And two shards of it are merged to the same files
    parts = [tmp_path / f"part-{number}.trec" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        done = rerankq(*arguments(source, part, "--shard", f"{number}/2"), environment=environment)
        assert done.returncode == 0, done.stderr
    merged = tmp_path / "merged.trec"
    done = rerankq(
        *("merge", *map(str, parts), "--output", str(merged), "--results", f"{merged}.jsonl"),
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    assert files(merged) == files(whole)


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--cascade", STUB), 2, f"--cascade names '{STUB}', which also scores the best"),
        (("--cascade", STUB, "--model", STUB), 2, f"--cascade names '{STUB}', which also"),
        (("--cascade", "another"), 2, "model 'another' is not allowed"),
        ((*CASCADE, "--model", ABSENT), 1, f"a worker could not score with {ABSENT}: "),
    ],
)
def test_a_cascade_that_cannot_work_is_refused_and_leaves_no_files(
    source: Path,
    environment: dict[str, str],
    tmp_path: Path,
    options: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    output = tmp_path / "out.trec"
    done = rerankq(
        *("rescore", "--input", str(source), "--output", str(output), *options),
        environment=environment,
    )
    assert done.returncode == code
    assert reason in done.stderr
    assert list(tmp_path.glob("out*")) == []


def test_a_cascade_is_compared_with_its_large_model_alone(environment: dict[str, str]) -> None:
    sample = (
        *("--corpus", str(SAMPLE / "corpus.jsonl"), "--queries", str(SAMPLE / "queries.jsonl")),
        *("--run", str(SAMPLE / "bm25.trec"), "--qrels", str(SAMPLE / "qrels.tsv")),
    )
    compared = ("compare", *sample, "--depth", "20", "--model", STUB)
    done = rerankq(*compared, *CASCADE, "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    small, large = said["b"]["passes"]
    assert (said["a"]["model"], said["a"]["pairs"]) == (STUB, 1_000)
    assert (small["model"], small["pairs"]) == (OTHER, 1_000)
    assert (large["model"], large["pairs"]) == (STUB, 50 * KEEP)
    assert said["time_saved"] == pytest.approx(
        1 - (small["seconds"] + large["seconds"]) / said["a"]["seconds"]
    )
    # Both stubs rank alike, so nothing is lost
    assert said["mean_overlap"] == said["mean_tau"] == 1.0
    assert said["measures"]["change"]["nDCG@10"] == 0.0
    assert said["measures"]["a"]["nDCG@10"] > 0.3
    # And the scores of two models are not compared
    assert said["mean_difference"] is said["largest_difference"] is None
    # The tables say the same
    shown = rerankq(*compared, *CASCADE, environment=environment)
    assert shown.returncode == 0, shown.stderr
    assert f"B  {OTHER}, then {STUB} for the best {KEEP}" in shown.stdout
    assert "score difference" not in shown.stdout
    assert f"B, {STUB}" in shown.stdout
    assert "of the time of A" in shown.stdout
    both = rerankq(*compared, "--model", OTHER, *CASCADE, environment=environment)
    assert (both.returncode, "pass --model once" in both.stderr) == (2, True)
