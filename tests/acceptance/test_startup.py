"""A worker warns of wrong settings of its Redis, and restarts at SIGHUP with the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from producer.client.blocking import RerankClient
from tests.acceptance.conftest import environment_of
from tests.embedded_redis import FaultyRedis
from tests.processes import end, wait_until

COMMANDS = {
    "python -m celery": (sys.executable, "-m", "celery"),
    "celery": (str(Path(sys.executable).with_name("celery")),),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_worker_warns_at_each_start_and_restarts_at_sighup(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with FaultyRedis() as server:
        # Given a server that may evict keys
        server.admin.config_set("maxmemory-policy", "allkeys-lru")
        settings = server.settings()
        log = tmp_path / "worker.log"
        arguments = ("-A", "worker", "worker", "--loglevel", "INFO", "--concurrency", "1")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *arguments],
                env=os.environ | environment_of(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: log.read_text().count(" ready.") == 1, "the worker is ready")
            # When the worker is asked to restart
            process.send_signal(signal.SIGHUP)
            wait_until(
                lambda: process.poll() is not None or log.read_text().count(" ready.") == 2,
                "it is ready again",
            )
            # Then it is the same process with the same command, and scores jobs
            with RerankClient(settings) as client:
                assert client.rerank("a query", ["one", "two"], timeout=90).documents
        finally:
            end(process)
        text = log.read_text()
        assert text.count("maxmemory-policy allkeys-lru") == 2
        assert "Traceback" not in text
