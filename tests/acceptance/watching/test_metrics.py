"""`rerankq metrics` and `rerankq status` count the outcomes of jobs, in pairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from tempfile import TemporaryFile

import pytest

from contract import jobs, metrics
from contract.metrics import Counter
from producer.cli.loopback import free_port
from tests.acceptance.watching.conftest import Watched
from tests.command_line import rerankq
from tests.metrics_text import nonzero, samples
from tests.processes import end, linux_only, start, wait_until
from tests.stub_models import LARGE, SMALL
from tests.web import fetch

pytestmark = linux_only


def provenances(watched: Watched) -> list[jobs.Provenance]:
    """Return the results of all jobs that have one."""
    outcomes = watched.ledger.outcomes().values()
    return [each.provenance for each in outcomes if isinstance(each, jobs.JobResult)]


def by_model(watched: Watched, amount: str) -> dict[str, float]:
    """Return a figure of all results, by the model that made them."""
    found: dict[str, float] = {}
    for made in provenances(watched):
        found[made.model] = found.get(made.model, 0) + getattr(made, amount)
    return {model: value for model, value in found.items() if value}


def of(text: str, counter: Counter) -> dict[str, float]:
    """Return an endpoint's values of a counter with a label."""
    assert counter.label
    return nonzero(samples(text, f"rerankq_{counter.name}_total", counter.label))


@pytest.fixture(scope="module")
def text(watched: Watched) -> str:
    done = rerankq("metrics", environment=watched.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_job_is_counted_by_how_it_ended(watched: Watched, text: str) -> None:
    done = len(provenances(watched))

    assert of(text, metrics.JOBS_ENDED) == {"done": done, "failed": 1, "cancelled": 2}
    assert of(text, metrics.FAILURES) == {"out_of_memory": 1}
    assert of(text, metrics.DOWNGRADES) == {"out_of_memory": 1, jobs.WORKER_DIED: 1}
    submitted = len(watched.ledger.submitted)
    assert samples(text, "rerankq_jobs_accepted_total") == {(): submitted}
    assert done + 1 + 2 == submitted


def test_what_was_scored_is_counted_in_pairs_of_each_model(watched: Watched, text: str) -> None:
    assert of(text, metrics.PAIRS) == by_model(watched, "pairs")
    assert of(text, metrics.TOKENS) == by_model(watched, "tokens")
    assert of(text, metrics.TRUNCATED) == by_model(watched, "truncated")
    saved = sum(made.pairs - made.unique_pairs for made in provenances(watched))
    assert of(text, metrics.DUPLICATES) == {LARGE: saved}
    assert saved == 1


def test_work_and_trouble_are_counted_by_model(watched: Watched, text: str) -> None:
    assert set(of(text, metrics.BATCHES)) == {LARGE, SMALL}
    assert set(of(text, metrics.SCORING_S)) == {LARGE, SMALL}
    # One job was scored in parts, and two had no memory for a single pair of the large model
    assert set(of(text, metrics.SHORTAGES)) == {LARGE}
    assert 1 <= of(text, metrics.HALVINGS)[LARGE] < of(text, metrics.SHORTAGES)[LARGE]
    # Both models were loaded by the first child, and by its replacement
    assert of(text, metrics.LOADS) == {LARGE: 2, SMALL: 2}
    assert set(of(text, metrics.LOADING_S)) == {LARGE, SMALL}


def test_attempts_are_counted_and_those_that_were_killed(watched: Watched, text: str) -> None:
    attempts = sum(map(watched.ledger.attempts, watched.ledger.submitted))

    assert samples(text, "rerankq_attempts_total") == {(): attempts}
    assert samples(text, "rerankq_attempt_deaths_total") == {(): 1}


def test_what_there_is_now_is_told_too(watched: Watched, text: str) -> None:
    for name, amount in (
        ("redis_up", 1),
        ("workers", 1),
        ("queue_messages", 0),
        ("oldest_queued_seconds", 0),
        ("jobs", 0),
        ("unacked_messages", 0),
        ("dead_letters", 1),
        ("redis_memory_max_bytes", 0),
    ):
        assert samples(text, f"rerankq_{name}") == {(): amount}, name
    assert samples(text, "rerankq_redis_memory_used_bytes")[()] > 0


def test_every_metric_says_what_it_is(text: str) -> None:
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")}

    assert {f"rerankq_{counter.name}_total" for counter in metrics.ALL} <= told
    assert all(name.startswith("rerankq_") for name in told)


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[str]:
    """Serve `rerankq metrics --serve` until Ctrl-C; yield its address."""
    port = free_port()
    arguments = ("metrics", "--serve", "--port", str(port))
    with TemporaryFile() as log:
        process = start("producer", *arguments, environment=environment, log=log)

        def said() -> bytes:
            return os.pread(log.fileno(), 10_000, 0)

        try:
            wait_until(lambda: said().endswith(b"\n"), "it says its address")
            assert said().decode() == f"serving metrics at http://127.0.0.1:{port}/metrics\n"
            yield f"http://127.0.0.1:{port}/metrics"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            end(process)


def test_the_served_metrics_are_those_that_are_printed(watched: Watched, text: str) -> None:
    with serving(watched.environment) as url:
        served = fetch(url)

    assert served.splitlines()[0] == text.splitlines()[0]
    assert total_lines(served) == total_lines(text)


def total_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "_total" in line]


def test_a_scrape_while_redis_is_away_says_so_and_nothing_else() -> None:
    with serving({"RERANKQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}) as url:
        assert samples(fetch(url), "rerankq_redis_up") == {(): 0}
        assert "_total" not in fetch(url)


def test_printing_while_redis_is_away_is_an_error() -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    done = rerankq("metrics", environment={"RERANKQ_REDIS_URL": nowhere})

    assert done.returncode == 4
    assert nowhere in done.stderr
    assert done.stdout == ""


def test_the_status_shows_the_same_to_people(watched: Watched) -> None:
    done = rerankq("status", environment=watched.environment | {"COLUMNS": "200"})

    lines = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    assert f"{len(provenances(watched))} done, 1 failed, 2 cancelled" in lines["jobs"]
    assert "1 out_of_memory" in lines["failures"]
    assert "1 out_of_memory, 1 worker_died" in lines["downgrades"]
    assert "1 of " in lines["killed"]
    pairs = by_model(watched, "pairs")
    header = next(line for line in done.stdout.splitlines() if LARGE in line and SMALL in line)
    shown = dict(zip(header.split(), lines["pairs"].split()[1:], strict=True))
    assert shown == {
        LARGE: f"{pairs[LARGE]:,}",
        SMALL: f"{pairs[SMALL]:,}",
    }


def test_the_status_can_be_watched_with_rates(watched: Watched) -> None:
    command = [sys.executable, "-m", "producer", "status", "--watch", "--interval", "0.1", "--json"]
    process = subprocess.Popen(
        command, env=os.environ | watched.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        end(process)
        process.stdout.close()

    assert looks[0]["counters"] == looks[1]["counters"]
    assert looks[0]["counters"]["pairs"] == by_model(watched, "pairs")


def test_two_hundred_scrapes_at_once_are_all_answered_and_so_are_later_ones(
    watched: Watched,
) -> None:
    with serving(watched.environment) as url, ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(fetch, [url] * 200))
        later = fetch(url)

    assert {samples(answer, "rerankq_workers")[()] for answer in (*answers, later)} == {1}
