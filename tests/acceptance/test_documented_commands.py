"""The commands and programs of the README and the tutorial run, and print the shown output.

`make demo` and `make up` are tested in `test_stack.py`, the Docker commands in `test_compose.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import documented
from tests.documented import ROOT, Command
from tests.processes import program

RUN = ("rerankq ", "printf ", "cat ", "cp ", "mkdir ", "cd ")
NOT_RUN = ("make ", "pip install ", ". .venv/bin/activate", "sh deploy/env.sh", "docker-compose ")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the sample collection at the same path as in a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_commands_print_what_is_shown(
    page: str, clone: Path, environment: Mapping[str, str]
) -> None:
    folder, ran = clone, 0
    for command in documented.commands(page):
        if command.text.startswith(NOT_RUN):
            continue
        assert command.text.startswith(RUN), f"is {command.text!r} to be run?"
        if command.text.startswith("cd "):
            folder /= command.text.removeprefix("cd ")
            continue
        printed = run(command, folder, environment)
        shown = documented.comparable("\n".join(command.shown))
        assert not shown or documented.matches(shown, printed), (command.text, shown, printed)
        ran += 1
    assert ran > 1


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/guides/python.md"])
def test_programs_run_and_print_what_is_shown(
    page: str,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    # Run the program in this process, which has imported torch for other tests too.
    exec(compile(documented.program(page), page, "exec"), {"__name__": "__main__"})  # noqa: S102

    printed = capsys.readouterr().out
    for shown in documented.texts(page):
        assert documented.comparable(shown) == documented.comparable(printed)


def run(command: Command, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Run a command in a shell; return the lines that it prints."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program("bash"), "-c", command.text],
        cwd=folder,
        env=os.environ | environment | {"PATH": programs},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (command.text, done.stdout)
    return documented.comparable(done.stdout)
