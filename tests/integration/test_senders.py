"""A run whose jobs are sent by several processes is the same as that of one process."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from multiprocessing import Pipe
from pathlib import Path

import pytest
import redis

from contract import errors, jobs, names
from contract.errors import RerankError
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.rescore import runner
from producer.rescore.journal import Journal
from tests.integration.rescore_runs import OPTIONS, QUERIES, interrupt_after, session, staged
from tests.integration.sample_records import result_of_job
from tests.integration.stand_ins import StandInWorker, answering_worker
from tests.processes import wait_until

TWO = dataclasses.replace(OPTIONS, processes=2)


@pytest.fixture
def reranker(settings: Settings) -> Iterator[ColumnsClient]:
    with ColumnsClient(settings) as made:
        yield made


def children() -> list[int]:
    """Return the processes that send for this one."""
    return senders_of(os.getpid())


def senders_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_an_interrupted_run_of_two_processes_continues_with_one_and_scores_nothing_twice(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    with StandInWorker(settings, result_of_job) as worker:
        # Given a run that is interrupted, as by Ctrl-C
        with pytest.raises(KeyboardInterrupt):
            session(reranker, tmp_path, interrupt_after(2), TWO)
        assert children() == []
        # When it continues with one process
        progress, lines = session(reranker, tmp_path)
        scored = list(worker.queries)
        (other := tmp_path / "other").mkdir()
        _, lines_of_one = session(reranker, other)

    # Then it is complete, as from one process, and no query was scored twice
    assert lines == lines_of_one
    assert (progress.queries, progress.pairs, progress.failed_queries) == (QUERIES, 2 * QUERIES, 0)
    assert sorted(scored, key=str) == sorted((f"q{n}" for n in range(QUERIES)), key=str)


def test_a_process_that_is_killed_ends_a_run_that_cannot_be_resumed_and_its_jobs(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    queued = names.Keys(settings.namespace).queued

    def kill_one() -> None:
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            wait_until(lambda: client.zcard(queued) == 3, "both processes have jobs in flight")
        os.kill(children()[0], signal.SIGKILL)

    with (
        ThreadPoolExecutor(1) as pool,
        staged(tmp_path) as staging,
        Journal(str(tmp_path / "out"), staging) as journal,
    ):
        killing = pool.submit(kill_one)
        with pytest.raises(RerankError, match="exit code -9"):
            runner.rescore(reranker, journal, TWO, lambda _: None)
    killing.result()
    # The other process has cancelled its jobs; those of the killed one expire.
    states = reranker.status().jobs
    assert states[jobs.JobState.CANCELLED] in (1, 2)
    assert states[jobs.JobState.QUEUED] == 3 - states[jobs.JobState.CANCELLED]
    assert children() == []


def test_a_result_of_other_settings_ends_the_run_and_its_jobs(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    lengths = chain((512, 256), repeat(512))

    def score(job: jobs.Job) -> jobs.JobResult:
        made = result_of_job(job)
        source = made.provenance.model_copy(update={"max_length": next(lengths)})
        return made.model_copy(update={"provenance": source})

    with (
        StandInWorker(settings, score, at_most=2),
        # Either of the two jobs may be the first whose process receives it.
        pytest.raises(RerankError, match=r"a maximum length of (256|512) tokens"),
    ):
        session(reranker, tmp_path, options=TWO)
    assert children() == []
    # Its result is not left for the same command with the right workers.
    with StandInWorker(settings, score):
        progress, _ = session(reranker, tmp_path)
    assert progress.queries == QUERIES


def test_the_error_of_a_process_ends_the_run(reranker: ColumnsClient, tmp_path: Path) -> None:
    impatient = dataclasses.replace(TWO, worker_wait_s=0.0, max_wait_s=0.5)
    said: list[str] = []
    with pytest.raises(errors.NoWorker, match="no worker answers"):
        session(reranker, tmp_path, options=impatient, notify=said.append)
    assert children() == []


def test_all_processes_end_when_the_command_is_killed(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"query_id": "q", "query": "q", "candidates": [{"id": "d", "text": "t"}]}')
    readiness = {"children": 2, "ready": 2, "model": "stub"}
    with answering_worker(settings, readiness):
        command = subprocess.Popen(
            [
                *(sys.executable, "-m", "producer", "rescore", "--input", str(source)),
                *("--output", str(tmp_path / "out"), "--processes", "2"),
            ],
            env=os.environ
            | {
                "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
                "RERANKQ_NAMESPACE": settings.namespace,
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: len(senders_of(command.pid)) == 2, "both processes have started")
            senders = senders_of(command.pid)
        finally:
            command.kill()
            command.wait()
        wait_until(lambda: not any(map(is_running, senders)), "both processes have ended")


@pytest.mark.parametrize(
    "error", [errors.NoWorker, errors.RedisUnavailable, errors.Overloaded, errors.ResultTimeout]
)
def test_errors_keep_their_class_and_message_on_the_way(error: type[RerankError]) -> None:
    ours, theirs = Pipe()
    ours.send(error("it is away"))
    received = theirs.recv()
    assert (type(received), str(received)) == (error, "it is away")
