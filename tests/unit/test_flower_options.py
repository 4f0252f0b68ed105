"""Options that Flower would fail on are refused in one line that shows no password."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import flower.command  # noqa: F401 - once, for all forks
import pytest

from worker.monitoring import flower_options

PASSWORD = "hunter2"  # noqa: S105


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """Yield a port with a listener."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def read(folder: Path, *options: str, **variables: str) -> tuple[int, str]:
    """Read options in a fork, because they are global; return its exit code and output."""
    environment = {
        "FLOWER_BASIC_AUTH": f"someone:{PASSWORD}",
        "FLOWER_DB": str(folder / "state"),
        "FLOWER_PERSISTENT": "true",
        "FLOWER_PORT": "0",
    }
    log = folder / "log"
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, log.read_text()
    code = 70
    try:
        os.chdir(folder)
        os.environ.update(environment | variables)
        sys.stderr = log.open("w")
        flower_options.read_and_check(options, may_be_open=False)
        code = 0
    except SystemExit as ended:
        code = int(str(ended.code))
    finally:
        sys.stderr.flush()
        os._exit(code)


def assert_refused(ended: tuple[int, str], *words: str) -> None:
    code, said = ended
    assert (code, said.count("\n")) == (78, 1), said
    for word in words:
        assert word in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BASIC_AUTH", f"someone:a,{PASSWORD}", "login 2 of 2 has no colon"),
        ("BASIC_AUTH", f"someone,else:{PASSWORD}", "login 1 of 2 has no colon"),
        ("BASIC_AUTH", f":{PASSWORD}", "has no user"),
        ("BASIC_AUTH", f"some:{PASSWORD},someone:", "login 2 of 2 has no password"),
        ("BASIC_AUTH", f"someone:{PASSWORD} ", "whitespace"),
        ("BASIC_AUTH", f"someone:{PASSWORD}é", "ASCII"),
        ("BASIC_AUTH", f"someone:{PASSWORD}\a", "ASCII"),
        ("PORT", "http", "must be a whole number (got 'http')"),
        ("PORT", "65536", "from 0 to 65535"),
        ("ADDRESS", "192.0.2.1", "cannot listen on 192.0.2.1"),
        ("URL_PREFIX", "(", "letters, digits"),
        ("PERSISTENT", "perhaps", "true or false"),
        ("MAX_TASKS", "0", "at least 1"),
        ("INSPECT_TIMEOUT", "nan", "at least 1"),
        ("STATE_SAVE_INTERVAL", "-1", "at least 0"),
        ("PURGE_OFFLINE_WORKERS", "1h", "whole number"),
        ("TASK_RUNTIME_METRIC_BUCKETS", "3,2,1", "ascending"),
        ("TASKS_COLUMNS", "name,colour", "'colour' is not a column: use "),
        ("CONF", "nowhere.py", "nowhere.py does not exist"),
        ("CERTFILE", "nowhere.pem", "FLOWER_KEYFILE"),
        ("UNIX_SOCKET", "nowhere/socket", "nowhere does not exist or is not writable"),
        ("DB", "/proc/nowhere/state", "cannot create the folder for Flower's state"),
        ("DB", ".", "cannot write to "),
        ("AUTH", "someone@example.com", "FLOWER_AUTH"),
    ],
)
def test_an_option_of_flower_is_refused_by_its_variable(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    ended = read(tmp_path, **{f"FLOWER_{name}": value})

    assert_refused(ended, "Error: invalid setting FLOWER_", said)
    assert name in ended[1] or name == "ADDRESS" or name == "AUTH"


def test_a_port_that_is_taken_is_refused(tmp_path: Path, taken: int) -> None:
    assert_refused(read(tmp_path, FLOWER_PORT=str(taken)), "FLOWER_PORT", str(taken), "in use")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--port=http", ("--port", "'http'")),
        ("--port=70000", ("FLOWER_PORT", "65535")),
        (f"--basic-auth={PASSWORD}", ("FLOWER_BASIC_AUTH", "no colon")),
        ("--max-tasks=-1", ("FLOWER_MAX_TASKS", "at least 1")),
    ],
)
def test_so_is_an_option_on_its_command_line(
    tmp_path: Path, option: str, words: tuple[str, ...]
) -> None:
    assert_refused(read(tmp_path, option), *words)


def test_options_that_are_right_are_taken(tmp_path: Path) -> None:
    right = {
        "FLOWER_BASIC_AUTH": f"someone:{PASSWORD},other:b:c",
        "FLOWER_URL_PREFIX": "/jobs/",
        "FLOWER_TASKS_COLUMNS": "name, uuid",
        "FLOWER_PERSISTENT": "true",
        "FLOWER_PURGE_OFFLINE_WORKERS": "60",
    }
    assert read(tmp_path, "--debug", **right) == (0, "")


def test_empty_files_and_files_of_flower_are_taken(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert read(tmp_path) == (0, "")


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a line\n")
    assert_refused(read(tmp_path), "FLOWER_DB", "is not a state file of Flower")
