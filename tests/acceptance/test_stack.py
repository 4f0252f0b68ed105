"""`rerankq demo` and `rerankq up` on a machine without Redis."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from contract.settings import Settings
from producer.cli.loopback import free_port
from producer.client.blocking import RerankClient
from tests import documented
from tests.command_line import rerankq
from tests.processes import children_of, rerankq_process, wait_until
from tests.stub_models import ABSENT, STUB
from tests.web import fetch, refusal


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((address, port)) == 0


def test_the_demo_shows_what_reranking_changes(tmp_path: Path) -> None:
    done = rerankq_process("demo", "--keep", str(tmp_path), environment={})

    assert done.returncode == 0, done.stderr
    assert "first stage" in done.stderr
    assert "reranked" in done.stderr
    assert "fix the artist and album names in my mp3 collection" in done.stdout
    shown = documented.command("README.md", "make demo").shown
    assert documented.missing(shown, done.stdout + done.stderr) == set()
    assert len((tmp_path / "reranked.trec").read_text().splitlines()) == 2500


def test_ctrl_c_ends_all_that_up_started(tmp_path: Path) -> None:
    # Given a running stack, in a folder with a user's own module `worker`
    (tmp_path / "worker.py").write_text("raise SystemExit('this is not the worker of rerankq')")
    redis_port, flower_port = free_port(), free_port()
    command = [sys.executable, "-m", "producer", "up", "--model", STUB, "--concurrency", "1"]
    command += ["--redis-port", str(redis_port), "--flower-port", str(flower_port)]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ, cwd=tmp_path)
        wait_until(
            lambda: "Ctrl-C" in (tmp_path / "up.log").read_text() or process.poll() is not None,
            "the stack is up",
        )
        settings = Settings.load(redis_url=f"redis://127.0.0.1:{redis_port}/0")
        with RerankClient(settings) as client:
            assert client.rerank("a query", ["a document"], timeout=60).documents[0].rank == 1
        shown = documented.command("docs/tutorial.md", "make up").shown
        served = tuple(line.replace("bundled", STUB) for line in shown)
        assert documented.missing(served, (tmp_path / "up.log").read_text()) == set()
        # And Flower accepts the login that was printed
        assert refusal(f"http://127.0.0.1:{flower_port}/tasks") == 401
        url = re.search(r"http://(\S+)@127\S+", (tmp_path / "up.log").read_text())
        assert url is not None
        assert "Flower" in fetch(f"http://127.0.0.1:{flower_port}/tasks", login=url[1])
        # And the list of processes shows no URL of Redis, which may hold a password
        started = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children_of(process.pid)]
        assert sum("celery" in arguments for arguments in started) == 2
        assert "redis://" not in "".join(started)

        # When it gets a signal to end
        process.send_signal(signal.SIGINT)

        # Then no process is left
        assert process.wait(60) == 0
    assert not listens(redis_port)
    assert not listens(flower_port)
    for service in ("redis", "worker", "flower"):
        assert service in (tmp_path / "up.log").read_text()


def test_a_taken_port_is_one_line_of_error() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        done = rerankq("up", "--model", STUB, "--redis-port", port, environment={})

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert port in done.stderr
    assert "--redis-port" in done.stderr


def test_a_model_that_cannot_be_loaded_ends_up_with_the_reason() -> None:
    done = rerankq_process(
        *("up", "--model", ABSENT, "--redis-port", str(free_port())),
        environment={},
    )

    assert done.returncode == 1
    assert f"{ABSENT!r} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
