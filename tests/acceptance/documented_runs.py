"""The commands of a page run in a shell, in a folder like a clone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests import documented, processes
from tests.documented import ROOT, Command
from tests.processes import program

RUN = ("rerankq ", "printf ", "cat ", "cp ", "mkdir ", "cd ")
NOT_RUN = ("make ", "pip install ", ". .venv/bin/activate", "sh deploy/env.sh", "docker-compose ")


def run_all(page: str, clone: Path, environment: Mapping[str, str]) -> list[tuple[Command, str]]:
    """Return the commands of a page that were run, and what each has printed.

    The folder `clone` gets the sample collection at the same path as in a clone.
    """
    (clone / "examples").symlink_to(ROOT / "examples")
    folder, ran = clone, []
    for command in documented.commands(page):
        if command.text.startswith(NOT_RUN):
            continue
        assert command.text.startswith(RUN), f"is {command.text!r} to be run?"
        if command.text.startswith("cd "):
            folder /= command.text.removeprefix("cd ")
            continue
        ran.append((command, _run(command, folder, environment)))
    return ran


def check(ran: list[tuple[Command, str]]) -> None:
    """Check that commands have printed what the page shows."""
    for command, printed in ran:
        shown = documented.comparable("\n".join(command.shown))
        told = documented.comparable(printed)
        assert not shown or documented.matches(shown, told), (command.text, shown, told)
    assert len(ran) > 1


def _run(command: Command, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command in a shell; return what it prints."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program("bash"), "-c", command.text],
        cwd=folder,
        env=processes.environment(**environment, PATH=programs),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (command.text, done.stdout)
    return done.stdout
