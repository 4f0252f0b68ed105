"""Every wait of the command line is reported, and none is endless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from contract.models import KNOWN_MODELS
from contract.settings import Settings
from producer.cli import common
from producer.client.blocking import RerankClient
from tests.embedded_redis import embedded_redis
from tests.integration.sample_records import DOCUMENTS, QUERY, result_of_job
from tests.integration.stand_ins import StandInWorker, answering_worker
from tests.processes import rerankq_process


@pytest.fixture
def own_server() -> Iterator[Settings]:
    """Yield a server for one test, which may limit its memory."""
    with embedded_redis() as server, redis.Redis(port=server.port) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.setrange("ballast", 2**24, "x")  # so that the test's own data does not count
        yield Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0", namespace="test-waits")


def fill(settings: Settings, percent: int) -> None:
    """Limit the server's memory such that this share of it is in use."""
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] * 100 // percent)


def environment(settings: Settings) -> dict[str, str]:
    return {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
    }


def run_file(folder: Path) -> Path:
    source = folder / "in.jsonl"
    candidates = [{"id": "d0", "text": "t"}, {"id": "d1", "text": "u"}]
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": candidates}) for n in range(3)
    )
    source.write_text("\n".join(lines))
    return source


def test_a_run_that_is_not_accepted_says_why_ends_in_time_and_is_resumed(
    own_server: Settings, tmp_path: Path
) -> None:
    source, output = run_file(tmp_path), tmp_path / "out.trec"
    command = ("rescore", "--input", str(source), "--output", str(output))
    with answering_worker(own_server):
        # Given a Redis with more memory in use than is allowed
        fill(own_server, percent=90)
        # When a run is started
        full = rerankq_process(*command, "--max-wait", "2", environment=environment(own_server))
        # Then it reports why it waits, and ends
        assert full.returncode == common.EXIT_OVERLOADED
        assert (
            "waiting (0 s of at most 2 s): the service is not accepting jobs: Redis uses"
            in full.stderr
        )
        assert "run the same command to continue" in full.stderr
        # And once there is room, the same command succeeds
        fill(own_server, percent=10)
        with StandInWorker(own_server, result_of_job):
            done = rerankq_process(*command, environment=environment(own_server))
    assert done.returncode == 0, done.stderr
    assert output.exists()


def test_a_run_whose_jobs_never_end_says_so_and_ends_in_time(
    settings: Settings, tmp_path: Path
) -> None:
    source, output = run_file(tmp_path), tmp_path / "out.trec"
    with answering_worker(settings):
        done = rerankq_process(
            *("rescore", "--input", str(source), "--output", str(output), "--max-wait", "1"),
            environment=environment(settings),
        )
    assert done.returncode == common.EXIT_TIMEOUT
    assert (
        "Error: no result within 1 s (--max-wait): 1 job of this run unfinished;"
        " 1 message in the queue, 0 jobs running" in done.stderr
    )


def test_a_run_without_a_worker_says_that_it_waits_for_one(
    settings: Settings, tmp_path: Path
) -> None:
    source, output = run_file(tmp_path), tmp_path / "out.trec"
    done = rerankq_process(
        *("rescore", "--input", str(source), "--output", str(output), "--worker-wait", "1.5"),
        environment=environment(settings),
    )
    assert done.returncode == common.EXIT_NO_WORKER
    assert "of at most 1.5 s): no worker answers on redis://" in done.stderr


def test_a_comparison_that_is_not_accepted_says_why_and_ends_in_time(
    own_server: Settings, tmp_path: Path
) -> None:
    fill(own_server, percent=90)
    models = ("--model", "bundled", "--model", KNOWN_MODELS[0])
    with answering_worker(own_server):
        done = rerankq_process(
            *("compare", "--input", str(run_file(tmp_path)), *models, "--max-wait", "1"),
            environment=environment(own_server),
        )
    assert done.returncode == common.EXIT_OVERLOADED
    assert (
        "waiting (0 s of at most 1 s): the service is not accepting jobs: Redis uses" in done.stderr
    )


@pytest.mark.parametrize("command", ["submit", "result"])
def test_who_waits_for_a_job_is_told_its_id_and_what_it_waits_for(
    settings: Settings, tmp_path: Path, command: str
) -> None:
    documents = tmp_path / "documents.txt"
    documents.write_text("\n".join(DOCUMENTS))
    with RerankClient(settings) as client:
        job_id = client.submit(QUERY, DOCUMENTS, job_id="mine")
    arguments = {
        "submit": ("--query", QUERY, "--documents", str(documents), "--job-id", job_id),
        "result": (job_id,),
    }
    with answering_worker(settings):
        done = rerankq_process(
            *(command, *arguments[command], "--wait", "2"), environment=environment(settings)
        )
    assert done.returncode == common.EXIT_TIMEOUT
    assert "waiting (1 s of at most 2 s): job mine is queued" in done.stderr
    assert "Error: job mine is still queued after 2 s" in done.stderr
