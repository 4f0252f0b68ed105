"""Options that Flower would fail on are refused in one line that shows no password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import run

PASSWORD = "hunter2"  # noqa: S105
NOBODY = "redis://127.0.0.1:1/0"


def flower(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "RERANKQ_REDIS_URL": NOBODY,
        "FLOWER_BASIC_AUTH": f"someone:{PASSWORD}",
        "FLOWER_DB": str(folder / "state"),
        "FLOWER_PORT": "0",
    }
    arguments = ("-A", "worker", "flower", *options)
    return run("celery", *arguments, environment=environment | variables, folder=folder)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    for word in words:
        assert word in done.stderr
    assert PASSWORD not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        ((), {"FLOWER_BASIC_AUTH": f"someone:a,{PASSWORD}"}, ("FLOWER_BASIC_AUTH", "no colon")),
        ((), {"FLOWER_URL_PREFIX": "("}, ("FLOWER_URL_PREFIX", "letters, digits")),
        (("--port=http",), {}, ("--port", "'http'")),
    ],
)
def test_flower_ends_with_what_is_wrong_with_its_options(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], words: tuple[str, ...]
) -> None:
    assert_refused(flower(tmp_path, *options, **variables), *words)


def test_a_file_that_is_no_state_of_flower_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("a line\n")

    done = flower(tmp_path, FLOWER_DB=str(tmp_path / "precious"))

    assert_refused(done, "FLOWER_DB", "precious is not a state file of Flower")
    assert (tmp_path / "precious").read_text() == "a line\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "precious"]


@pytest.mark.parametrize(
    ("module", "variable", "value"),
    [
        ("celery -A worker worker", "RERANKQ_VISIBILITY_TIMEOUT_S", "60"),
        ("celery -A worker worker", "RERANKQ_REDIS_URL", f"redis://:{PASSWORD}#x@host:6379/0"),
        ("celery -A worker flower", "RERANKQ_VISIBILITY_TIMEOUT_S", "60"),
        ("celery -A worker inspect ping", "RERANKQ_THREADS", "many"),
        ("worker.health", "RERANKQ_LEASE_S", "10s"),
    ],
)
def test_a_setting_that_is_wrong_ends_every_program_of_the_worker_alike(
    tmp_path: Path, module: str, variable: str, value: str
) -> None:
    variables = {"FLOWER_BASIC_AUTH": "u:p", variable: value}
    done = run(*module.split(), environment=variables, folder=tmp_path)

    assert_refused(done, "Error: invalid setting", variable)


def test_a_variable_of_flower_is_no_matter_to_a_worker_s_settings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import worker.celery"],
        env=os.environ | {"FLOWER_PORT": "http"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
