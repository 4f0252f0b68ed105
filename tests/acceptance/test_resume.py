"""A re-scoring that is killed, at any time and any number of times, ends with the same files."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.processes import Process, celery, children_of, start, wait_until

KILLS = 10
QUERIES = 40
#: Two children need about seven seconds for all queries, which is enough to be killed ten times.
SLOW = "stub:pairs_per_s=150"


@dataclass(frozen=True)
class Service:
    """Return a worker for this module, whose children may be killed."""

    environment: dict[str, str]
    pid: int


@pytest.fixture(scope="module")
def own(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    environment = environment_of(settings, SLOW)
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    arguments = ("worker", "--concurrency", "2", "-n", settings.namespace)
    with celery(*arguments, log=log, environment=environment) as process:
        with RerankClient(settings) as client:
            wait_until(lambda: bool(client.workers(0.5, at_most=1)), "a worker answers")
        yield Service(environment, process.pid)
        assert process.poll() is None, log.read_text()


@contextmanager
def held(service: Service) -> Iterator[None]:
    """Stop the worker's children from scoring."""
    children = children_of(service.pid)
    for each in children:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in children:
            os.kill(each, signal.SIGCONT)


@dataclass(frozen=True)
class Run:
    """A re-scoring of many seconds, and its files."""

    requests: Path
    output: Path

    @property
    def arguments(self) -> list[str]:
        return [
            *("rescore", "--input", str(self.requests), "--output", str(self.output)),
            *("--results", f"{self.output}.jsonl", "--pairs-per-job", "50", "--window", "2"),
        ]

    @property
    def journal(self) -> Path:
        return Path(f"{self.output}.partial.jsonl")

    def written(self) -> int:
        """Return the size of the results so far."""
        return self.journal.stat().st_size if self.journal.exists() else 0

    def start(self, environment: dict[str, str]) -> Process:
        with self.log.open("wb") as log:
            return start("producer", *self.arguments, environment=environment, log=log)

    @property
    def log(self) -> Path:
        """Return the file with the output of the last process."""
        return self.requests.with_name("log")

    def files(self) -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in self.output.parent.iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path, "out")


def made_run(folder: Path, name: str, queries: int = QUERIES) -> Run:
    """Return queries of fifty documents each, some of them longer than the maximum length."""
    requests = folder / "requests.jsonl"
    words = ["a", "text", "about", "this", "and", "that", "and", "some", "other", "things"]
    random_ = random.Random(4)
    with requests.open("w") as file:
        for query in range(queries):
            candidates = [
                {"id": f"d{n}", "text": " ".join(random_.choices(words, k=random_.randint(1, 700)))}
                for n in range(50)
            ]
            line = {"query_id": f"q{query}", "query": f"{query}", "candidates": candidates}
            file.write(json.dumps(line) + "\n")
    (folder / name).mkdir()
    return Run(requests, folder / name / "out.trec")


def test_killed_ten_times_at_random_moments_the_output_is_that_of_an_undisturbed_run(
    own: Service, tmp_path: Path
) -> None:
    # Given an undisturbed run
    whole = made_run(tmp_path, "whole")
    done = rerankq(*whole.arguments, environment=own.environment)
    assert done.returncode == 0, done.stderr

    # When the same run is killed again and again, and sometimes a child of the worker as well
    (tmp_path / "killed").mkdir()
    killed = Run(whole.requests, tmp_path / "killed" / "out.trec")
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    random_ = random.Random(seed)
    for kill in range(KILLS):
        before = killed.written()
        process = killed.start(own.environment)
        if kill % 2:
            wait_until(lambda n=before: killed.written() != n, "more results")  # type: ignore[misc]
        time.sleep(random_.uniform(0.0, 0.3))
        if kill in (3, 7):
            os.kill(random_.choice(children_of(own.pid)), signal.SIGKILL)
        process.kill()
        process.wait()
    done = rerankq(*killed.arguments, environment=own.environment)

    # Then it is byte-identical, and nothing else is left
    assert done.returncode == 0, done.stderr
    assert killed.files() == whole.files()
    assert set(whole.files()) == {"out.trec", "out.trec.jsonl"}


def test_an_interrupted_run_is_continued_by_the_same_command_alone(own: Service, run: Run) -> None:
    # Given a run that has its first results
    process = run.start(own.environment)
    wait_until(lambda: run.written() > 0, "there are results")

    with held(own):
        # When it is started again meanwhile, that is refused
        second = rerankq(*run.arguments, environment=own.environment)
        assert (second.returncode, second.stderr.count("\n")) == (2, 1), second.stderr
        holder = f"another rerankq process is writing this file: process {process.pid} on "
        assert holder in second.stderr

        # And when it is interrupted, it prints where the results are, which are complete
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert f"{run.journal}; run the same command to continue" in run.log.read_text()
    assert not run.output.exists()
    lines = run.journal.read_text().splitlines()
    assert all(json.loads(line)["ids"] for line in lines)

    # Then another command is refused, with the differences
    other = rerankq(*run.arguments, "--top-k", "3", environment=own.environment)
    assert other.returncode == 2
    assert "--top-k (not given -> 3)" in other.stderr
    assert "--restart" in other.stderr

    # And the same one does the rest
    done = rerankq(*run.arguments, environment=own.environment)
    assert done.returncode == 0, done.stderr
    assert f"resuming: {len(lines)} of {QUERIES} queries are done" in done.stderr
    assert f"{50 * len(lines):,} pairs scored earlier" in done.stderr
    assert len(run.output.read_text().splitlines()) == QUERIES * 50
    assert set(run.files()) == {"out.trec", "out.trec.jsonl"}


def test_an_earlier_run_can_be_forgotten(own: Service, tmp_path: Path) -> None:
    # Given the files of an older version
    small = made_run(tmp_path, "out", queries=1)
    small.journal.write_text("{}\n")
    refused = rerankq(*small.arguments, environment=own.environment)
    assert (refused.returncode, small.journal.read_text()) == (2, "{}\n")

    done = rerankq(*small.arguments, "--restart", environment=own.environment)

    assert done.returncode == 0, done.stderr
    assert set(small.files()) == {"out.trec", "out.trec.jsonl"}


def test_there_must_be_a_run_of_which_to_redo_something(own: Service, tmp_path: Path) -> None:
    small = made_run(tmp_path, "out", queries=1)
    refused = rerankq(*small.arguments, "--retry-failed", environment=own.environment)
    assert refused.returncode == 2
    assert "there is no earlier run with queries to score again" in refused.stderr
    assert small.files() == {}
