"""`rerankq dead`: failed jobs can be shown, retried with another model, and dropped."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from contract.errors import JobFailed
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import environment_of
from tests.command_line import Completed, rerankq
from tests.stub_models import ABSENT, STUB


@pytest.fixture(scope="module")
def service(stub_service: Settings) -> Settings:
    return stub_service


@pytest.fixture
def environment(service: Settings) -> dict[str, str]:
    return environment_of(service)


@pytest.fixture
def dead(service: Settings, client: RerankClient) -> str:
    """Return the id of a job that failed because its model does not exist."""
    job_id = client.submit("mp3 tags", ["a tag editor", "a chess game"], model=ABSENT)
    with pytest.raises(JobFailed):
        client.result(job_id, timeout=60)
    return job_id


def run(environment: dict[str, str], *arguments: str) -> Completed:
    return rerankq("dead", *arguments, environment=environment)


def test_a_dead_letter_says_why_and_how_often(environment: dict[str, str], dead: str) -> None:
    listed = run(environment, "list", "--json")
    letters = [json.loads(line) for line in listed.stdout.splitlines()]
    shown = run(environment, "show", dead)

    (letter,) = [each for each in letters if each["job_id"] == dead]
    assert (letter["code"], letter["attempts"], letter["deaths"]) == ("model_unavailable", 1, 0)
    assert ABSENT in letter["message"]
    assert dead in run(environment, "list").stdout
    assert "model_unavailable" in shown.stdout


def test_a_list_is_whole_in_a_pipe_and_at_a_narrow_terminal(
    environment: dict[str, str], dead: str
) -> None:
    listed = run(environment, "list", "--json").stdout.splitlines()
    (letter,) = [each for each in map(json.loads, listed) if each["job_id"] == dead]

    # In a pipe, a letter is one line
    (line,) = [
        line for line in run(environment, "list").stdout.splitlines() if line.startswith(f" {dead}")
    ]
    for value in (dead, "model_unavailable", letter["message"]):
        assert value in line

    # On a terminal of 80 columns, it is several
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "producer", "dead", "list", "--limit", "1"]
    with subprocess.Popen(
        command, env=os.environ | environment | {"COLUMNS": "80"}, stdout=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        # Linux reports this when the other side is closed.
        with suppress(OSError):
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    assert dead in shown.decode()
    assert "".join(letter["message"].split()) in "".join(shown.decode().split())


def test_a_dead_letter_is_done_with_another_model(
    environment: dict[str, str], client: RerankClient, dead: str
) -> None:
    retried = run(environment, "retry", dead, "--model", STUB)

    assert (retried.returncode, retried.stdout) == (0, f"{dead}\n")
    result = client.result(dead, timeout=60)
    assert (result.provenance.model, result.provenance.attempts) == (STUB, 1)
    assert dead not in run(environment, "list").stdout


def test_a_dead_letter_that_is_dropped_stays_failed(
    environment: dict[str, str], client: RerankClient, dead: str
) -> None:
    dropped = run(environment, "drop", dead)

    assert (dropped.returncode, dropped.stdout) == (0, f"{dead}\n")
    assert client.status(dead).code == "model_unavailable"
    assert dead not in run(environment, "list").stdout


def test_all_dead_letters_can_be_given_up_at_once(environment: dict[str, str], dead: str) -> None:
    dropped = run(environment, "drop", "--all")

    assert dead in dropped.stdout
    empty = run(environment, "list")
    assert (empty.stdout, empty.stderr) == ("", "no dead letters\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "nobody"), 7, "not a dead letter"),
        (("retry", "nobody"), 7, "not a dead letter"),
        (("drop", "nobody"), 7, "not a dead letter"),
        (("retry",), 2, "--all"),
        (("drop", "one", "--all"), 2, "--all"),
    ],
)
def test_what_is_no_dead_letter_is_one_line_of_error(
    environment: dict[str, str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run(environment, *arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert said in done.stderr


def test_a_dead_letter_is_not_retried_with_a_model_that_is_not_allowed(
    environment: dict[str, str], dead: str
) -> None:
    refused = run(environment, "retry", dead, "--model", "somebody/elses-model")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert dead in run(environment, "list").stdout
