"""The command `rescore --cache` with real workers, and `rerankq cache`."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from contract.settings import Settings
from producer.client.blocking import RerankClient
from producer.score_cache.maintenance import Maintenance
from tests.acceptance.conftest import environment_of
from tests.command_line import Completed, rerankq
from tests.processes import Process, start, wait_until
from tests.stub_models import OTHER


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


def write(file: Path, queries: int, words: str = "words") -> Path:
    """Write queries with 50 candidates each."""
    lines = (
        {
            "query_id": f"q{number}",
            "query": f"query {number} {words}",
            "candidates": [
                {"id": f"d{place}", "text": f"document {place} of query {number}"}
                for place in range(50)
            ],
        }
        for number in range(queries)
    )
    file.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return file


def rescore(source: Path, environment: dict[str, str], *more: str) -> Completed:
    output = source.with_suffix(".trec")
    arguments = ("rescore", "--input", str(source), "--output", str(output), *more)
    done = rerankq(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return done


def begin(source: Path, output: Path, cache: Path, environment: dict[str, str]) -> Process:
    """Start a run with a job for each query."""
    with output.with_suffix(".log").open("w") as log:
        return start(
            *("producer", "rescore", "--input", str(source), "--output", str(output)),
            *("--pairs-per-job", "50", "--window", "1", "--cache", str(cache)),
            environment=environment,
            log=log,
        )


def counts(done: Completed) -> tuple[int, int]:
    """Return the numbers of scores that were found and not found."""
    found = re.search(r"cache: ([\d,]+) scores? found, ([\d,]+) not found", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def accepted(settings: Settings) -> float:
    with RerankClient(settings) as client:
        return client.status().counters["jobs_accepted"][""]


def test_a_second_run_sends_no_job_and_a_new_query_is_all_that_is_scored(
    stub_service: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    cache = ("--cache", str(tmp_path / "scores.db"))
    first = rescore(write(tmp_path / "first", 50), environment, *cache)
    assert counts(first) == (0, 2_500)
    before = accepted(stub_service)
    second = rescore(write(tmp_path / "second", 50), environment, *cache)
    assert counts(second) == (2_500, 0)
    assert "scored 0 pairs" in second.stderr
    assert accepted(stub_service) == before
    assert (tmp_path / "second.trec").read_bytes() == (tmp_path / "first.trec").read_bytes()

    # The variable names the file as well
    variable = environment | {"RERANKQ_CACHE": cache[1]}
    third = rescore(write(tmp_path / "third", 51), variable)
    assert counts(third) == (2_500, 50)
    rescore(write(tmp_path / "plain", 51), environment)
    assert (tmp_path / "third.trec").read_bytes() == (tmp_path / "plain.trec").read_bytes()

    # Another model has no scores there, although no worker has loaded it yet
    other = rescore(write(tmp_path / "other", 1), environment, *cache, "--model", OTHER)
    assert counts(other) == (0, 50)
    again = rescore(write(tmp_path / "again", 1), environment, *cache, "--model", OTHER)
    assert counts(again) == (50, 0)


def test_a_run_that_is_killed_loses_at_most_the_scores_of_one_job(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file, journal = tmp_path / "scores.db", tmp_path / "out.partial.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    source = write(tmp_path / "first", 200, "killed")
    process = begin(source, tmp_path / "out", file, environment)
    wait_until(lambda: lines() >= 5, "some queries are scored")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Maintenance(file, today=0) as maintenance:
        kept = maintenance.stats().pairs
    assert kept >= 50 * lines() >= 250
    done = rescore(write(tmp_path / "other", 200, "killed"), environment, "--cache", str(file))
    assert counts(done) == (kept, 10_000 - kept)


def test_two_runs_at_once_share_a_cache(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "scores.db"
    processes = [
        begin(write(tmp_path / name, 20, "shared"), tmp_path / f"{name}.out", file, environment)
        for name in "ab"
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "a.out").read_bytes() == (tmp_path / "b.out").read_bytes()
    third = rescore(write(tmp_path / "c", 20, "shared"), environment, "--cache", str(file))
    assert counts(third) == (1_000, 0)


def test_a_cache_that_cannot_be_used_is_named_at_once(
    environment: dict[str, str], tmp_path: Path
) -> None:
    source, file = write(tmp_path / "in", 1), tmp_path / "scores.db"
    arguments = ("rescore", "--input", str(source), "--output", str(tmp_path / "out"), "--cache")
    file.write_text("not a database" * 100)
    done = rerankq(*arguments, str(file), environment=environment)
    assert (done.returncode, done.stderr.count(str(file))) == (2, 1)
    assert "this is not a file of cached scores, or it is damaged" in done.stderr
    assert "pairs" not in done.stderr  # the input is not even read
    # It cannot be another file of the run either
    for other in (source, tmp_path / "out", tmp_path / "out.partial.jsonl"):
        done = rerankq(*arguments, str(other), environment=environment)
        assert done.returncode == 2
        assert "same file" in done.stderr


def test_a_read_only_cache_is_used_and_not_changed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "scores.db"
    cache = ("--cache", str(file))
    rescore(write(tmp_path / "first", 2), environment, *cache)
    file.chmod(0o444)
    before = file.read_bytes()
    done = rescore(write(tmp_path / "second", 3), environment, *cache)
    assert counts(done) == (100, 50)
    assert f"{file} is read-only: no score is added to it" in done.stderr
    assert file.read_bytes() == before


class TestTheCommandCache:
    @pytest.fixture
    def file(self, environment: dict[str, str], tmp_path: Path) -> Path:
        file = tmp_path / "scores.db"
        rescore(write(tmp_path / "in", 4), environment, "--cache", str(file))
        return file

    def ask(self, *arguments: str, **variables: str) -> Completed:
        return rerankq("cache", *arguments, environment=variables)

    def test_stats_show_the_size_and_where_the_scores_come_from(self, file: Path) -> None:
        shown = self.ask("stats", str(file))
        assert shown.returncode == 0
        assert re.search(r"pairs +200 ", shown.stdout)
        assert "stub cpu float32" in shown.stdout
        # The variable names the file as well
        found: dict[str, Any] = json.loads(
            self.ask("stats", "--json", RERANKQ_CACHE=str(file)).stdout
        )
        assert (found["pairs"], found["bytes"]) == (200, file.stat().st_size)
        (identity,) = found["identities"]
        assert (identity["model"], identity["max_length"]) == ("stub", 512)

    def test_prune_reports_what_it_removes(self, file: Path) -> None:
        done = self.ask("prune", str(file), "--older-than", "30d")
        assert f"{file}: removed 0 scores, 200 left" in done.stderr
        done = self.ask("prune", str(file), "--max-size", "16KiB")
        assert done.returncode == 0
        assert f"{file}: removed " in done.stderr
        assert "0 left" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["stats", "no-such-file"], "no-such-file: there is no such file"),
            (["stats"], "Missing argument 'FILE'"),
            (["prune", "x"], "pass --older-than, --max-size, or both"),
            (["prune", "x", "--older-than", "30"], "'30' is not a number of days or weeks"),
            (["prune", "x", "--older-than", "0d"], "'0d' is not a number of days or weeks"),
            (["prune", "x", "--max-size", "2"], "'2' is not a size, such as 2GB or 500MiB"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, arguments: list[str], said: str) -> None:
        done = self.ask(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
