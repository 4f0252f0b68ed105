"""The command line as its users see it: its output, and its exit codes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.processes import end, rerankq_process, start, wait_until

LINES = "a mail client\na command line editor for ID3 tags of MP3 files\n\na chess game\n"
QUERY = ("--query", "edit mp3 tags from the terminal")
NOBODY = {"RERANKQ_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture
def documents(tmp_path: Path) -> str:
    file = tmp_path / "documents.txt"
    file.write_text(LINES)
    return str(file)


@pytest.fixture
def environment(stub_service: Settings) -> dict[str, str]:
    return environment_of(stub_service)


@pytest.fixture
def lonely(settings: Settings) -> dict[str, str]:
    """Return a namespace without a worker."""
    return environment_of(settings)


def test_submit_and_wait_prints_the_ranking(environment: dict[str, str], documents: str) -> None:
    done = rerankq_process(
        "submit", *QUERY, "--documents", documents, "--wait", "60", environment=environment
    )

    assert done.returncode == 0, done.stderr
    best = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["1"])
    assert best[3:8] == ["1", "a", "command", "line", "editor"]
    assert "3 pairs" in done.stderr


def test_submit_prints_an_id_with_which_result_and_status_find_the_job(
    environment: dict[str, str],
) -> None:
    submitted = rerankq_process(
        "submit", *QUERY, "--documents", "-", environment=environment, standard_input=LINES
    )
    job_id = submitted.stdout.strip()

    result = rerankq("result", job_id, "--wait", "60", "--json", environment=environment)
    status = rerankq("status", job_id, "--json", environment=environment)

    ranking = json.loads(result.stdout)["rankings"][0]["documents"]
    assert [document["id"] for document in ranking] == ["1", "0", "2"]
    assert json.loads(status.stdout)["state"] == "done"


def test_jsonl_documents_keep_their_ids(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text('{"id": "x", "text": "chess"}\n{"id": 7, "text": "mp3 tags in a terminal"}\n')

    done = rerankq(
        *("submit", *QUERY, "--documents", str(file), "--top-k", "1", "--wait", "60", "--json"),
        environment=environment,
    )

    (best,) = json.loads(done.stdout)["rankings"][0]["documents"]
    assert best["id"] == "7"


def test_what_looks_like_markup_is_printed_as_it_is(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text('{"id": "[/x]", "text": "a [/foo] in [bold] type"}\n')

    done = rerankq(
        *("submit", *QUERY, "--documents", str(file), "--wait", "60"), environment=environment
    )

    assert "[/x]" in done.stdout, done.stderr
    assert "a [/foo] in [bold] type" in done.stdout


def test_options_can_be_given_by_environment(environment: dict[str, str], documents: str) -> None:
    variables = {"RERANKQ_SUBMIT_TOP_K": "2", "RERANKQ_SUBMIT_WAIT": "60"}

    done = rerankq(
        *("submit", *QUERY, "--documents", documents, "--json"),
        environment=environment | variables,
    )

    assert len(json.loads(done.stdout)["rankings"][0]["documents"]) == 2


def test_status_names_the_workers(environment: dict[str, str]) -> None:
    done = rerankq("status", environment=environment)

    assert environment["RERANKQ_NAMESPACE"] in done.stdout
    assert "queue depth" in done.stdout


def test_a_waiting_job_can_be_cancelled_once(lonely: dict[str, str], documents: str) -> None:
    job_id = rerankq("submit", *QUERY, "--documents", documents, environment=lonely).stdout.strip()

    assert rerankq("cancel", job_id, environment=lonely).returncode == 0
    again = rerankq("cancel", job_id, environment=lonely)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    result = rerankq("result", job_id, environment=lonely)
    assert (result.returncode, "cancelled" in result.stderr) == (1, True)


def test_waiting_without_any_worker_says_so(lonely: dict[str, str], documents: str) -> None:
    done = rerankq("submit", *QUERY, "--documents", documents, "--wait", "0.5", environment=lonely)

    assert done.returncode == 5
    # The line before has the id, with which the job can be found.
    assert done.stderr.count("\n") == 2
    assert "no worker answers" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("result", "no-such-job"), 7),
        (("status", "no-such-job"), 7),
        (("cancel", "no-such-job"), 7),
        (("submit", *QUERY, "--documents", "/no/such/file"), 2),
        (("submit", *QUERY, "--documents", "/"), 2),
        (("submit", *QUERY, "--documents", "/dev/null"), 2),
        (("submit", "--query", "  ", "--documents", "DOCUMENTS"), 2),
        (("submit", *QUERY, "--documents", "DOCUMENTS", "--model", "not/allowed"), 2),
        (("submit", *QUERY, "--documents", "DOCUMENTS", "--job-id", "not an id"), 2),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    environment: dict[str, str], documents: str, arguments: tuple[str, ...], code: int
) -> None:
    arguments = tuple(documents if each == "DOCUMENTS" else each for each in arguments)

    done = rerankq(*arguments, environment=environment)

    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("result", "some-job", "--wait", "5"),
        ("cancel", "some-job"),
        ("submit", *QUERY, "--documents", "DOCUMENTS"),
    ],
)
def test_without_redis_every_command_says_so(documents: str, arguments: tuple[str, ...]) -> None:
    arguments = tuple(documents if each == "DOCUMENTS" else each for each in arguments)

    done = rerankq(*arguments, environment=NOBODY)

    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "redis://127.0.0.1:1/0" in done.stderr


@pytest.mark.parametrize(
    "command", ["submit", "result", "status", "cancel", "rescore", "compare", "up"]
)
def test_help_lists_exit_codes_and_environment_variables(command: str) -> None:
    done = rerankq(command, "--help", environment={})

    assert done.returncode == 0
    assert "Exit codes:" in done.stdout
    assert "RERANKQ_" in done.stdout or command == "cancel"


def test_a_setting_that_does_not_parse_is_named() -> None:
    done = rerankq_process("status", environment={"RERANKQ_MAX_PAIRS_PER_JOB": "many"})

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "RERANKQ_MAX_PAIRS_PER_JOB" in done.stderr


def test_ctrl_c_ends_a_wait_with_a_line(
    lonely: dict[str, str], documents: str, tmp_path: Path
) -> None:
    command = [*("submit", *QUERY, "--documents", documents, "--wait", "60")]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = start("producer", *command, environment=lonely, log=output)
    try:
        wait_until(lambda: log.read_text().startswith("job "), "it has submitted the job")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        end(process)
    said = log.read_text()
    assert said.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in said


def test_documents_and_ids_cannot_move_the_cursor(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "documents.jsonl"
    harmful = "\x1b[2J\x9b31m\u202egpj\a"
    file.write_text(json.dumps({"id": "d1", "text": f"{harmful}a title"}, ensure_ascii=False))

    done = rerankq(
        *("submit", "--query", harmful, "--documents", str(file), "--wait", "60"),
        environment=environment,
    )

    assert done.returncode == 0, done.stderr
    assert "a title" in done.stdout
    assert "\\x1b[2J" in done.stdout
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()
