"""Flower shows the outcomes of jobs to users who have logged in, and nothing of the jobs' texts."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import errors, jobs, names
from tests.acceptance.watching.conftest import UNSEEN, Watched
from tests.documents import SHORT
from tests.flower_process import LOGIN, Flower
from tests.metrics_text import nonzero, samples
from tests.processes import linux_only, run, wait_until
from tests.stub_models import LARGE, SMALL

pytestmark = linux_only


@pytest.fixture(scope="module")
def tasks(watched: Watched) -> dict[str, dict[str, Any]]:
    """Return Flower's table after it has heard all events."""
    ended = {"SUCCESS", "FAILURE", "REVOKED"}

    def all_ended() -> bool:
        shown = watched.flower.tasks()
        return {shown[key]["state"] for key in watched.ledger.submitted if key in shown} <= ended

    wait_until(all_ended, "Flower shows how all jobs ended")
    return watched.flower.tasks()


def test_each_job_is_shown_as_it_ended(watched: Watched, tasks: dict[str, dict[str, Any]]) -> None:
    ended = dict.fromkeys((*watched.done, watched.downgraded, watched.killed), "SUCCESS")
    ended |= {watched.failed: "FAILURE"} | dict.fromkeys(watched.cancelled, "REVOKED")

    assert {job_id: task["state"] for job_id, task in tasks.items()} == ended


def test_a_result_is_a_summary_that_agrees_with_the_ledger(
    watched: Watched, tasks: dict[str, dict[str, Any]]
) -> None:
    for job_id, outcome in watched.ledger.outcomes().items():
        if isinstance(outcome, jobs.JobResult):
            made = outcome.provenance
            summary = ast.literal_eval(tasks[job_id]["result"])
            assert list(summary) == [
                *("model", "downgraded", "pairs", "pairs_per_s", "truncated", "seconds")
            ]
            for key in ("model", "downgraded", "pairs", "truncated"):
                assert summary[key] == getattr(made, key)
            assert summary["seconds"] == pytest.approx(made.seconds, abs=1e-3)


def test_jobs_of_the_downgrade_model_are_told_by_their_names(
    watched: Watched, tasks: dict[str, dict[str, Any]]
) -> None:
    downgraded = f"{names.SCORE_TASK}[{SMALL}]"

    others = {job_id for job_id, task in tasks.items() if task["name"] != names.SCORE_TASK}
    assert others == {watched.downgraded, watched.killed}
    assert {tasks[job_id]["name"] for job_id in others} == {downgraded}


def test_a_failure_has_a_reason_of_one_line(
    watched: Watched, tasks: dict[str, dict[str, Any]]
) -> None:
    reason = tasks[watched.failed]["exception"]

    assert reason.startswith(f"{errors.OutOfMemory.__name__}(")
    assert LARGE in reason
    assert "\\n" not in reason
    assert len(reason) < 300


def test_arguments_are_the_id_and_counts(
    watched: Watched, tasks: dict[str, dict[str, Any]]
) -> None:
    for job_id, task in tasks.items():
        status = watched.ledger.client.status(job_id)
        assert ast.literal_eval(task["args"]) == (job_id,)
        assert ast.literal_eval(task["kwargs"]) == {"requests": 1, "pairs": status.pairs}


def test_no_document_is_shown_anywhere(watched: Watched, tasks: dict[str, dict[str, Any]]) -> None:
    flower, job_id = watched.flower, watched.done[1]
    pages = ["/", "/tasks", "/broker", f"/task/{job_id}", "/api/tasks", "/metrics"]
    pages += [f"/worker/{worker}" for worker in flower.json("/api/workers")]

    text = "".join(map(flower.get, pages))

    assert job_id in text
    for secret in (UNSEEN, *SHORT):
        assert secret not in text


def test_its_metrics_agree_with_the_ledger(
    watched: Watched, tasks: dict[str, dict[str, Any]]
) -> None:
    text = watched.flower.get("/metrics", login=None)
    counted = nonzero(samples(text, "flower_events_total", "type"))

    succeeded = sum(task["state"] == "SUCCESS" for task in tasks.values())
    assert counted["task-succeeded"] == succeeded
    assert counted["task-failed"] == 1
    assert counted["task-revoked"] == 2
    assert counted["task-downgraded"] == 2
    attempts = sum(map(watched.ledger.attempts, tasks))
    # A cancelled job's message is taken, but no attempt is made
    assert counted["task-started"] == attempts + 1
    runtimes = samples(text, "flower_task_runtime_seconds_count")
    assert runtimes == {(): succeeded}


def test_runtimes_are_told_apart_from_milliseconds_to_minutes(watched: Watched) -> None:
    text = watched.flower.get("/metrics", login=None)

    bounds = samples(text, "flower_task_runtime_seconds_bucket", "le")
    assert {"0.01", "1.0", "60.0", "600.0", "+Inf"} <= {bound for (bound,) in bounds}


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/tasks", "/api/workers"])
@pytest.mark.parametrize("login", [None, "someone:else", "someone:", ":"])
def test_nobody_sees_anything_without_the_login(
    watched: Watched, path: str, login: str | None
) -> None:
    assert watched.flower.refusal("GET", path, login) == 401


def start(watched: Watched, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a Flower that ends by itself."""
    return run("celery", "-A", "worker", "flower", environment=watched.environment | options)


def test_it_does_not_start_open(watched: Watched) -> None:
    done = start(watched, FLOWER_BASIC_AUTH="")

    assert done.returncode == 78
    assert "FLOWER_BASIC_AUTH=USER:PASSWORD" in done.stderr
    assert "RERANKQ_FLOWER_OPEN" in done.stderr


def test_it_does_not_start_where_it_could_remember_nothing(watched: Watched) -> None:
    done = start(watched, FLOWER_BASIC_AUTH=LOGIN, FLOWER_DB="/proc/nowhere/state")

    assert done.returncode == 78
    assert "FLOWER_DB" in done.stderr


def test_it_starts_open_if_that_is_said(watched: Watched, tmp_path: Path) -> None:
    options = {"FLOWER_BASIC_AUTH": "", "RERANKQ_FLOWER_OPEN": "true"}
    with Flower(watched.settings, tmp_path, **options) as flower:
        assert "Flower" in flower.get("/tasks", login=None)


def test_all_of_it_moves_below_a_prefix(watched: Watched, tmp_path: Path) -> None:
    with Flower(watched.settings, tmp_path, FLOWER_URL_PREFIX="jobs") as flower:
        assert "/jobs/static/" in flower.get("/tasks")
        assert flower.refusal("GET", "/tasks", None) == 401


def test_it_listens_on_loopback_only(watched: Watched) -> None:
    assert listened_on(watched.flower.port) == {"127.0.0.1"}


def listened_on(port: int) -> set[str]:
    """Return the addresses that a port is open on, as Linux lists them."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, number = line.split()[1].split(":")
        if int(number, 16) == port and line.split()[3] == "0A":
            found.add(".".join(str(byte) for byte in bytes.fromhex(address)[::-1]))
    every = [line.split()[1] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return found | {address for address in every if int(address.split(":")[1], 16) == port}


@pytest.fixture
def read_only(watched: Watched, tmp_path: Path) -> Iterator[Flower]:
    with Flower(watched.settings, tmp_path, FLOWER_READ_ONLY="true") as flower:
        yield flower


def test_nobody_stops_a_worker_where_it_is_read_only(watched: Watched, read_only: Flower) -> None:
    path = f"/api/worker/shutdown/celery@{watched.worker.name}"

    assert read_only.refusal("POST", path) == 403
    assert watched.worker.alive
