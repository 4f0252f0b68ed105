"""A log relies on parts of Celery, which are checked, and shortens what Celery logs."""

from __future__ import annotations

import logging

import pytest
from celery.apps import worker as program

from worker.monitoring import log_format


def test_a_celery_without_the_function_that_is_replaced_ends_the_worker_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(program, "safe_say")

    with pytest.raises(SystemExit) as ended:
        log_format._replace_safe_say()

    said = capsys.readouterr().err
    assert ended.value.code == 78
    assert said.count("\n") == 1
    assert "--log-format text" in said


def test_a_retry_of_the_result_backend_is_logged_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrying = logging.getLogger(log_format.RETRYING_LOGGER)
    monkeypatch.setattr(retrying, "filters", [])
    monkeypatch.setattr(log_format, "QUIET_LOGGERS", ())
    log_format._set_up_logger(logging.Logger("of a worker"), logging.INFO)
    try:
        raise ConnectionError("Connection closed by server.")
    except ConnectionError:
        retrying.warning("Failed operation %s. Retrying %s more times.", "store", 59, exc_info=True)
        retrying.exception("Failed to repair the connection")

    warning, error = caplog.records
    assert warning.getMessage() == (
        "Failed operation store. Retrying 59 more times. Connection closed by server."
    )
    assert warning.exc_info is None
    assert error.exc_info is not None
