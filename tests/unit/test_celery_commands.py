"""`rerankq worker` and `rerankq flower` report in one line what is not installed."""

from __future__ import annotations

import sys

import pytest

from producer.cli import main


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("worker", "sentence_transformers", "rerankq[worker]"),
        ("flower", "flower", "rerankq[monitor]"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(
    command: str,
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # makes the import fail

    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.count("\n") == 1
    assert f"pip install '{extra}'" in said
