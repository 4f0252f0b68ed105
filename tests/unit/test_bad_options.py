"""An invalid command-line option is reported in one line that names it, or its variable."""

from __future__ import annotations

import pytest

from producer.cli import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments, prog_name="rerankq")
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


#: The options that a command requires.
REQUIRED = {"submit": ("--query", "q", "--documents", "-"), "result": ("some-job",)}
OPTIONS = [
    ("rescore", "--window", "0"),
    ("rescore", "--window", "1e9"),
    ("rescore", "--pairs-per-job", "-1"),
    ("rescore", "--input-format", "run=csv"),
    ("rescore", "--cascade", "bundled:0"),
    ("rescore", "--depth", "x"),
    ("rescore", "--depth", "9" * 30),
    ("rescore", "--top-k", "1.5"),
    ("rescore", "--worker-wait", "nan"),
    ("rescore", "--worker-wait", "inf"),
    ("submit", "--wait", "-1"),
    ("submit", "--wait", "1e300"),
    ("submit", "--priority", "10"),
    ("submit", "--top-k", "0"),
    ("result", "--wait", "10s"),
    ("status", "--interval", "nan"),
    ("metrics", "--port", "0"),
    ("dead list", "--limit", "many"),
    ("compare", "--window", "1 0"),
    ("compare", "--input-format", "qrels=trec"),
    ("up", "--redis-port", "65536"),
]


@pytest.mark.parametrize(("command", "option", "value"), OPTIONS)
def test_an_option_that_makes_no_sense_is_one_line(
    capsys: pytest.CaptureFixture[str], command: str, option: str, value: str
) -> None:
    code, said = printed(capsys, *command.split(), *REQUIRED.get(command, ()), option, value)

    assert (code, said.count("\n")) == (2, 1)
    assert option in said
    assert f"see `rerankq {command} --help`" in said


@pytest.mark.parametrize(("command", "option", "value"), OPTIONS)
def test_an_option_that_comes_from_a_variable_is_named_by_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    option: str,
    value: str,
) -> None:
    variable = f"RERANKQ_{command}_{option[2:]}".upper().replace("-", "_").replace(" ", "_")
    monkeypatch.setenv(variable, value)
    code, said = printed(capsys, *command.split(), *REQUIRED.get(command, ()))

    assert (code, said.count("\n")) == (2, 1)
    assert variable in said


@pytest.mark.parametrize("option", ["--qrels", "--results", "--cascade", "--model", "--cache"])
def test_an_empty_value_is_refused_and_not_taken_as_no_value(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    code, said = printed(capsys, "rescore", option, "")

    assert (code, said.count("\n")) == (2, 1)
    assert option in said
    assert "must not be empty" in said


@pytest.mark.parametrize("command", ["rescore", "compare --model a --model b"])
@pytest.mark.parametrize("chosen", ["--column qrels.query=q", "--input-format corpus=tsv"])
def test_a_choice_for_a_file_that_is_not_read_is_refused(
    capsys: pytest.CaptureFixture[str], command: str, chosen: str
) -> None:
    code, said = printed(capsys, *command.split(), "--input", "x", *chosen.split())

    assert (code, said.count("\n")) == (2, 1)
    assert "has no effect without --" in said


def test_standard_input_is_read_once_under_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("-", "/dev/stdin", "/dev/fd/0"):
        files = ("--corpus", name, "--queries", "-", "--run", "x", "--dry-run")
        code, said = printed(capsys, "rescore", *files)
        assert code == 2
        assert "only one file can be read from standard input" in said


def test_what_somebody_typed_is_shown_without_its_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (("\x1b[31m",), ("--\x1b[31m",), ("status", "x", "\x1b[31m")):
        code, said = printed(capsys, *arguments)
        assert (code, said.count("\n")) == (2, 1)
        assert "\x1b" not in said
