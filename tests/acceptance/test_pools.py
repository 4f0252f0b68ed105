"""Celery's pools without children also score each job once; other pools and queues are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from contract.jobs import JobResult
from contract.models import is_stub
from contract.settings import Settings
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.ledger import Ledger
from tests.processes import MODEL_LIBRARIES, Process, celery, end, linux_only, run, wait_until
from tests.stub_models import ABSENT

#: A lease that expires several times while the jobs below are scored, and two attempts a job.
HASTY = {
    "RERANKQ_LEASE_S": "1",
    "RERANKQ_SWEEP_EVERY_S": "0.5",
    "RERANKQ_RESEND_AFTER_S": "1",
    "RERANKQ_MAX_ATTEMPTS": "2",
    "RERANKQ_MAX_BATCH_TOKENS": "512",
}
JOBS = 16
DOCUMENTS = [
    f"document {place} about a command line editor for ID3 tags " * 4 for place in range(150)
]


@contextmanager
def worker(settings: Settings, log: Path, *options: str, **environment: str) -> Iterator[Process]:
    arguments = ("worker", "--loglevel", "INFO", "--without-gossip", *options)
    name = ("-n", settings.namespace)
    given = environment_of(settings) | HASTY | environment
    libraries = () if is_stub(given["CROSS_ENCODER_MODEL"]) else MODEL_LIBRARIES
    # A pool that Celery reads when it is imported would need another server, for one fork.
    forked = "CELERY_CUSTOM_WORKER_POOL" not in given
    with celery(
        *arguments, *name, log=log, environment=given, forked=forked, libraries=libraries
    ) as process:
        yield process


@linux_only
@pytest.mark.parametrize(
    ("pool", "model"), [("threads", BUNDLED), ("solo", f"stub:pairs_per_s={len(DOCUMENTS) * 4}")]
)
def test_a_worker_without_children_scores_each_job_once_and_says_that_it_is_ready(
    pool: str, model: str, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with ExitStack() as stack:
        process = stack.enter_context(
            worker(
                settings,
                log,
                "--pool",
                pool,
                "--concurrency",
                "4",
                CROSS_ENCODER_MODEL=model,
                RERANKQ_THREADS="1",
            )
        )
        ledger = stack.enter_context(Ledger(settings))
        ids = [ledger.submit(DOCUMENTS) for _ in range(JOBS)]
        wait_until(
            lambda: process.poll() is not None or len(ledger.outcomes()) == JOBS, "all are done"
        )
        assert process.poll() is None, log.read_text()
        ledger.balance()
        made = ledger.outcomes()
        assert {type(each) for each in made.values()} == {JobResult}
        assert {job_id: ledger.attempts(job_id) for job_id in ids} == dict.fromkeys(ids, 1)
        scores = {
            tuple(document.score for document in each.rankings[0].documents)
            for each in made.values()
            if isinstance(each, JobResult)
        }
        assert len(scores) == 1
        assert "1 of 1 child ready" in health(settings)
        assert end(process) == 0, log.read_text()


def health(settings: Settings) -> str:
    done = run("worker.health", "-d", settings.namespace, environment=environment_of(settings))
    return done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_without_children_ends_if_its_model_does_not_load(
    pool: str, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with worker(settings, log, "--pool", pool, CROSS_ENCODER_MODEL=ABSENT) as process:
        assert process.wait(90) == 69
    assert ABSENT in log.read_text()


@pytest.mark.parametrize(
    ("options", "environment", "why"),
    [
        (
            ("--pool", "custom"),
            {"CELERY_CUSTOM_WORKER_POOL": "celery.concurrency.base:BasePool"},
            "scoring would block everything else in the process",
        ),
        (("--pool", "threads", "--autoscale", "4,1"), {}, "no child processes to add"),
        (("--queues", "other"), {}, "set RERANKQ_NAMESPACE"),
        (("--exclude-queues", "NAMESPACE"), {}, "set RERANKQ_NAMESPACE"),
    ],
)
def test_a_pool_or_queue_that_cannot_work_is_refused_in_one_line(
    options: tuple[str, ...],
    environment: dict[str, str],
    why: str,
    settings: Settings,
    tmp_path: Path,
) -> None:
    log = tmp_path / "worker.log"
    named = [each.replace("NAMESPACE", settings.namespace) for each in options]
    with worker(settings, log, *named, **environment) as process:
        assert process.wait(90) == 78
    lines = log.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: --")
    assert why in lines[0]
