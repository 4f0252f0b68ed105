"""Worker, Flower, command line and clients use `rediss://`, and refuse unsafe connections.

`tests/integration/test_redis_tls.py` has each client's errors about certificates.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.settings import Settings
from producer.cli.loopback import free_port
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.processes import celery, wait_until
from tests.redis_server import TlsServer, tls_server
from tests.stub_models import STUB
from tests.web import fetch

QUERY, DOCUMENTS = "edit mp3 tags", ["a mail client", "an editor for ID3 tags"]
PASSWORD = "a-word-for-redis"  # noqa: S105
LOGIN = "someone:a-word-for-flower"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with tls_server(tmp_path_factory.mktemp("tls"), password=PASSWORD) as made:
        yield made


@dataclass(frozen=True)
class Service:
    """A worker and Flower."""

    settings: Settings
    flower_port: int
    worker_log: Path


@pytest.fixture(scope="module")
def service(server: TlsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    made = Service(server.settings(ssl_ca_certs=server.authority), port, folder / "worker.log")
    environment = environment_of(made.settings) | {"FLOWER_BASIC_AUTH": LOGIN}
    worker = ("worker", "--loglevel", "INFO", "--concurrency", "1")
    with (
        celery(*worker, log=made.worker_log, environment=environment) as process,
        celery("flower", f"--port={port}", log=folder / "flower.log", environment=environment),
        RerankClient(made.settings) as client,
    ):
        wait_until(
            lambda: process.poll() is not None or bool(client.workers(0.5, at_most=1)),
            "a worker answers",
        )
        assert process.poll() is None, made.worker_log.read_text()
        yield made
    assert PASSWORD not in made.worker_log.read_text()


def test_both_clients_have_their_jobs_scored(service: Service) -> None:
    with RerankClient(service.settings) as client:
        blocking = client.rerank(QUERY, DOCUMENTS, timeout=60)

    async def scenario() -> list[str]:
        async with AsyncRerankClient(service.settings) as client:
            result = await client.rerank(QUERY, DOCUMENTS, timeout=60)
            return [document.id for document in result.documents]

    assert asyncio.run(scenario()) == [document.id for document in blocking.documents]


def test_the_command_line_has_its_job_scored(service: Service) -> None:
    done = rerankq(
        *("submit", "--query", QUERY, "--documents", "-", "--wait", "60", "--json"),
        environment=environment_of(service.settings),
        standard_input="\n".join(DOCUMENTS),
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["pairs"] == len(DOCUMENTS)


def test_flower_shows_tasks_workers_and_queue(service: Service) -> None:
    def page(path: str) -> dict[str, Any]:
        text = fetch(f"http://127.0.0.1:{service.flower_port}{path}", LOGIN)
        found: dict[str, Any] = json.loads(text)
        return found

    def shown() -> bool:
        with RerankClient(service.settings) as client:
            job_id = client.rerank(QUERY, DOCUMENTS, timeout=60).job_id
        return bool(page("/api/tasks").get(job_id, {}).get("state") == "SUCCESS")

    wait_until(shown, "Flower shows a job")
    (worker,) = page("/api/workers?refresh=1").values()
    assert "active_queues" in worker
    (queue,) = page("/api/queues/length")["active_queues"]
    assert queue == {"name": service.settings.namespace, "messages": 0}


def test_the_worker_does_not_warn_of_what_is_checked(service: Service) -> None:
    assert "turns off" not in service.worker_log.read_text()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        pytest.param("localhost", "self-signed certificate", id="unknown authority"),
        pytest.param("127.0.0.1", "not valid for '127.0.0.1'", id="another host"),
    ],
)
def test_nobody_talks_to_a_server_that_is_not_trusted(
    server: TlsServer, tmp_path: Path, host: str, reason: str
) -> None:
    options = {} if host == "localhost" else {"ssl_ca_certs": str(server.authority)}
    settings = server.settings(host, **options)
    environment = environment_of(settings) | {"FLOWER_BASIC_AUTH": LOGIN}

    status = rerankq("status", environment=environment)
    assert (status.returncode, status.stderr.count("\n")) == (4, 1)
    assert reason in status.stderr
    assert PASSWORD not in status.stderr

    logs = {name: tmp_path / f"{name}.log" for name in ("worker", "flower")}
    with ExitStack() as stack:
        worker = ("worker", "--loglevel", "INFO", "--concurrency", "1")
        stack.enter_context(celery(*worker, log=logs["worker"], environment=environment))
        flower = ("flower", f"--port={free_port()}")
        stack.enter_context(celery(*flower, log=logs["flower"], environment=environment))
        for name, log in logs.items():
            wait_until(lambda log=log: reason in log.read_text(), f"{name} says why")  # type: ignore[misc]
    for log in logs.values():
        assert PASSWORD not in log.read_text()


def test_a_worker_that_is_told_not_to_check_says_so_once(server: TlsServer, tmp_path: Path) -> None:
    settings = server.settings("127.0.0.1", ssl_cert_reqs="none")
    log = tmp_path / "worker.log"
    arguments = ("worker", "--loglevel", "INFO", "--concurrency", "1")
    with (
        celery(*arguments, log=log, environment=environment_of(settings)),
        RerankClient(settings) as client,
    ):
        assert client.rerank(QUERY, DOCUMENTS, timeout=90).provenance.model == STUB

    assert log.read_text().count("RERANKQ_REDIS_URL disables ssl_cert_reqs") == 1
