"""An unknown variable with the prefix of the settings is a warning, on both sides."""

from __future__ import annotations

import pytest

from contract.environment import COMMANDS, HTTP_SETTINGS
from contract.settings import Settings
from producer.cli import main
from producer.http.settings import HttpSettings
from worker.runtime import startup_checks
from worker.runtime.settings import WorkerSettings


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments, prog_name="rerankq")
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RERANKQ_REDIS_URI", "RERANKQ_REDIS_URL"),
        ("RERANKQ_MAX_PAIR_PER_JOB", "RERANKQ_MAX_PAIRS_PER_JOB"),
        ("RERANKQ_DEVISE", "RERANKQ_DEVICE"),
        ("RERANKQ_RESCORE_WINDOWS", "RERANKQ_RESCORE_WINDOW"),
        ("RERANKQ_DEAD_LIST_LIMITS", "RERANKQ_DEAD_LIST_LIMIT"),
        ("RERANKQ_QQQQQQQQ", None),
    ],
)
def test_a_variable_that_nobody_knows_is_a_warning_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    meant: str | None,
) -> None:
    monkeypatch.setenv(variable, "1")
    _, said = printed(capsys, "rescore", "--dry-run")

    first, _ = said.splitlines()
    assert first.startswith(f"Warning: unknown environment variable {variable}")
    assert first.endswith(f"did you mean {meant}?") == bool(meant)


def test_every_variable_of_a_worker_is_known_to_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WorkerSettings.model_fields.keys() - Settings.model_fields.keys():
        monkeypatch.setenv(f"RERANKQ_{name.upper()}", "1")
    _, said = printed(capsys, "rescore", "--dry-run")

    assert "Warning" not in said


def test_every_setting_of_the_http_service_is_known_to_workers() -> None:
    own = HttpSettings.model_fields.keys() - Settings.model_fields.keys()
    assert {name.upper() for name in own} == set(HTTP_SETTINGS)


def test_every_command_is_known_to_workers() -> None:
    celerys = {"WORKER", "FLOWER"}  # their options are Celery's, and have no variables of ours
    assert {name.upper() for name in main.commands} - celerys == set(COMMANDS)


def test_a_worker_warns_of_variables_that_nobody_knows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RERANKQ_THREAD", "RERANKQ_RESCORE_WINDOW", "RERANKQ_THREADS", "RERANKQ_RESCOR"):
        monkeypatch.setenv(name, "1")

    startup_checks.warn_of_unknown_variables()

    first, second = caplog.messages
    assert first.startswith("unknown environment variable RERANKQ_RESCOR")
    assert second == ("unknown environment variable RERANKQ_THREAD; did you mean RERANKQ_THREADS?")
