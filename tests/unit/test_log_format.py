"""The parts of Celery that a log in JSON relies on are checked when a worker starts."""

from __future__ import annotations

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
