"""`rerankq worker` and `rerankq flower` run our app, whatever other modules are called `worker`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest

import worker
from contract.settings import Settings
from producer.cli.loopback import free_port
from tests.processes import end, environment, rerankq_process, wait_until
from tests.web import fetch

RERANKQ = str(Path(sys.executable).with_name("rerankq"))
#: A module that must not run in any process.
USERS_OWN = """
import pathlib
pathlib.Path(__file__).with_suffix(".ran").touch()
from celery import Celery
app = Celery("mine")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a user's modules of these names."""
    for name in ("worker", "contract", "pydantic"):
        (tmp_path / f"{name}.py").write_text(USERS_OWN)
    return tmp_path


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in the folder."""
    done = subprocess.run(
        [RERANKQ, *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert list(folder.glob("*.ran")) == []
    return done


def test_help_shows_the_options_of_celery_and_ours(folder: Path) -> None:
    done = run(folder, "worker", "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: rerankq worker [OPTIONS]")
    assert "--concurrency" in done.stdout
    assert "--log-format" in done.stdout


def test_a_wrong_option_ends_as_with_celery() -> None:
    done = rerankq_process("worker", "--nonsense", environment={})

    assert done.returncode == 2
    assert "No such option '--nonsense'" in done.stderr


@pytest.mark.parametrize("command", ["worker", "flower"])
def test_a_wrong_setting_ends_as_with_celery(command: str) -> None:
    done = rerankq_process(command, environment={"RERANKQ_THREADS": "many"})

    assert done.returncode == 78
    assert done.stderr.startswith("Error: invalid setting RERANKQ_THREADS: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["worker", "flower"])
def test_another_package_of_the_name_that_python_finds_first_is_one_line_of_error(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "worker.py").write_text(USERS_OWN)

    done = run(tmp_path, command, PYTHONPATH=str(tmp_path))

    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "worker.py") in done.stderr
    assert str(Path(worker.__path__[0])) in done.stderr


def test_the_options_for_redis_are_passed_on_and_the_process_ends_as_flower_does(
    folder: Path, settings: Settings
) -> None:
    port = str(free_port())
    with (folder / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            [
                RERANKQ,
                *("--redis-url", settings.redis_url.get_secret_value()),
                *("--namespace", settings.namespace),
                *("flower", f"--port={port}", "--persistent=false"),
            ],
            cwd=folder,
            env=environment(RERANKQ_REDIS_URL="redis://127.0.0.1:1/0")
            | {"RERANKQ_FLOWER_OPEN": "true", "RERANKQ_NAMESPACE": "another"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(port), "Flower answers")
        said = (folder / "flower.log").read_text()
        assert process.poll() is None, said
        assert settings.redis_location.removeprefix("redis://") in said
    finally:
        code = end(process)
    assert code == 0
    assert not answers(port)
    assert list(folder.glob("*.ran")) == []


def answers(port: str) -> bool:
    """Return whether Flower answers at the port."""
    try:
        return fetch(f"http://127.0.0.1:{port}/healthcheck") == "OK"
    except URLError:
        return False
