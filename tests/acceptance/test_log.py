"""A worker's log has one line for each change of a job, as text and as JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from contract import names
from contract.errors import JobFailed
from contract.settings import Settings
from contract.store import submissions
from producer.client import preparing
from producer.client.publishing import Publisher
from tests import documented
from tests.acceptance.conftest import environment_of
from tests.documents import QUERY, SHORT, long_documents
from tests.ledger import Ledger
from tests.processes import celery, end, wait_until
from tests.stub_models import PAIRS_A_SECOND, SLOW

#: As slow as the slow model, with different scores.
SLOW_TOO = f"{SLOW};scale=2"
#: More than either can score in the soft time limit.
TOO_MANY = long_documents(6 * PAIRS_A_SECOND)
#: Enough time for the worker to be killed.
SOME = long_documents(PAIRS_A_SECOND)

ENVIRONMENT = {
    "RERANKQ_DOWNGRADE_MODEL": SLOW_TOO,
    "RERANKQ_SOFT_TIME_LIMIT_S": "3",
    "RERANKQ_LEASE_S": "1",
    "RERANKQ_LOG_FORMAT": "json",
}

#: The line of an attempt at the job that is killed, as text or JSON.
RUNNING = "killed.*running|running.*killed"

#: The outcomes of the jobs, by their ids.
CHANGES = {
    "good": ["running", "done", "skipped"],
    "empty": ["failed"],
    "cancelled": ["running", "cancelled"],
    "slow": ["running", "downgraded", "running", "failed"],
    "killed": ["running", "interrupted", "running", "done"],
}


@dataclass(frozen=True)
class Log:
    """The whole log of a worker."""

    text: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the lines as a program reads them."""
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, job_id: str) -> list[dict[str, Any]]:
        """Return the lines about a job."""
        return [record for record in self.records if record.get("job_id") == job_id]


def run(redis_url: str, folder: Path, *arguments: str) -> Log:
    """Return the log of a worker that had each of the jobs, and an unusable message."""
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    log = folder / "worker.log"
    command = ("worker", "--loglevel", "INFO", "--concurrency", "2", "-n", settings.namespace)
    environment = environment_of(settings, SLOW) | ENVIRONMENT
    with (
        celery(*command, *arguments, log=log, environment=environment) as process,
        Ledger(settings) as ledger,
    ):
        _have_all_done(ledger, settings, log)
        wait_until(lambda: "no.such.task" in log.read_text(), "the stranger is noticed")
        assert end(process) == 0, log.read_text()
    return Log(log.read_text())


def _have_all_done(ledger: Ledger, settings: Settings, log: Path) -> None:
    ledger.submit(job_id="good")
    ledger.result("good")

    empty = preparing.job([preparing.request(QUERY, SHORT, top_k=None)], settings, job_id="empty")
    ledger.store.execute(submissions.accept(ledger.store.schema, empty))
    ledger.store.client.delete(ledger.store.schema.keys.payload("empty"))
    good = empty.model_copy(update={"id": "good"})
    publisher = Publisher(settings)
    for job in (empty, good):
        publisher.send(job, priority=0)
    publisher.close()
    ledger.failure("empty")

    ledger.submit(TOO_MANY, job_id="cancelled")
    ledger.under_way("cancelled")
    assert ledger.client.cancel("cancelled")
    with pytest.raises(JobFailed):
        ledger.client.result("cancelled")

    ledger.submit(SOME, job_id="killed")
    _, child = ledger.under_way("killed")
    wait_until(lambda: "Job killed running" in log.read_text(), "its line is written")
    os.kill(child, signal.SIGKILL)
    ledger.submit(TOO_MANY, job_id="slow")
    ledger.result("killed")
    ledger.failure("slow")

    stranger = Celery(set_as_current=False, backend="disabled://")
    stranger.conf.update(names.celery_options(settings))
    stranger.send_task("no.such.task", queue=settings.namespace)
    stranger.close()


@pytest.fixture(scope="module")
def as_json(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Log:
    return run(redis_url, tmp_path_factory.mktemp("json"))


@pytest.fixture(scope="module")
def as_text(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Prefer the option to the environment."""
    return run(redis_url, tmp_path_factory.mktemp("text"), "--log-format", "text")


def test_every_line_of_a_json_log_is_an_object_with_who_says_it_and_when(as_json: Log) -> None:
    """Check all lines, including the first and the last, which Celery prints."""
    assert as_json.text
    for record in as_json.records:
        assert record.keys() >= {"time", "level", "logger", "process", "pid", "message"}
    assert "shutdown" in as_json.records[-1]["message"]
    assert "Traceback" not in as_json.text
    assert len({record["pid"] for record in as_json.records}) == 4


@pytest.mark.parametrize("job_id", CHANGES)
def test_each_change_of_a_job_is_one_object(as_json: Log, job_id: str) -> None:
    assert [record["event"] for record in as_json.of(job_id)] == CHANGES[job_id]


@pytest.mark.parametrize("job_id", CHANGES)
def test_each_change_of_a_job_is_one_line_of_text(as_text: Log, job_id: str) -> None:
    lines = re.findall(rf"^\[.* Job {job_id} (\w+)", as_text.text, re.MULTILINE)
    assert lines == CHANGES[job_id]


def test_the_lines_of_the_page_are_those_of_a_worker(as_text: Log) -> None:
    (shown,) = documented.texts("docs/guides/monitoring.md")

    logged = {form(line) for line in re.findall(r"Job \S+ .*", as_text.text)}

    assert {form(line) for line in shown.splitlines()} <= logged


def form(line: str) -> str:
    """Return a line about a job without what differs between jobs."""
    line = re.sub(r"^Job \S+", "Job ID", line)
    line = re.sub(r"\b(with|from) \S+(?<!,)", r"\1 MODEL", line)
    return re.sub(r"\d[\d,.]*(?<![,.])", "N", line).replace(", N truncated", "")


def test_the_objects_hold_model_pairs_seconds_and_attempts(as_json: Log) -> None:
    running, done, _ = as_json.of("good")
    assert (running["model"], running["pairs"], running["attempts"]) == (SLOW, 3, 1)
    assert (done["model"], done["pairs"], done["attempts"]) == (SLOW, 3, 1)
    assert 0 < done["seconds"] < 60
    assert done["truncated"] == 0


def test_the_objects_hold_why_a_job_did_not_go_the_straight_way(as_json: Log) -> None:
    (empty,) = as_json.of("empty")
    assert (empty["code"], empty["attempts"]) == ("payload_missing", 1)
    assert "RERANKQ_PAYLOAD_TTL_S" in empty["reason"]

    _, cancelled = as_json.of("cancelled")
    assert (cancelled["pairs"], cancelled["model"]) == (len(TOO_MANY), SLOW)
    assert cancelled["seconds"] > 0

    _, downgraded, again, failed = as_json.of("slow")
    assert (downgraded["code"], downgraded["model"]) == ("time_limit", SLOW)
    assert (again["code"], again["model"]) == ("time_limit", SLOW_TOO)
    assert (failed["code"], failed["model"]) == ("time_limit", SLOW_TOO)
    assert (failed["attempts"], failed["pairs"], failed["level"]) == (2, len(TOO_MANY), "WARNING")
    assert failed["seconds"] > 1

    _, interrupted, _, done = as_json.of("killed")
    assert (interrupted["code"], interrupted["pairs"]) == ("worker_died", len(SOME))
    assert (done["code"], done["model"], done["truncated"]) == ("worker_died", SLOW_TOO, len(SOME))


def test_celery_does_not_say_it_again(as_json: Log, as_text: Log) -> None:
    for log in (as_json, as_text):
        assert "Task rerankq.score" not in log.text


def test_what_only_celery_says_is_there(as_json: Log, as_text: Log) -> None:
    for log in (as_json, as_text):
        assert "it is for task 'no.such.task', but this worker runs only rerankq.score" in log.text
        assert "exited with 'signal 9 (SIGKILL)'" in log.text
        assert "Soft time limit (3s) exceeded" in log.text
