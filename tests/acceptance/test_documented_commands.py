"""The commands of the tutorial and the programs of pages run, and print the shown output.

The commands of the README are tested in `test_sample.py`, `make demo` and `make up` in
`test_stack.py`, and the Docker commands in `test_compose.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import documented, processes
from tests.acceptance import documented_runs


def test_the_commands_of_the_tutorial_print_what_is_shown(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    documented_runs.check(documented_runs.run_all("docs/tutorial.md", tmp_path, environment))


@pytest.mark.parametrize(
    ("page", "libraries"),
    [
        ("README.md", ()),
        ("docs/tutorial.md", ()),
        ("docs/guides/python.md", processes.MODEL_LIBRARIES),
    ],
)
def test_programs_run_and_print_what_is_shown(
    page: str, libraries: tuple[str, ...], environment: Mapping[str, str]
) -> None:
    done = processes.run(
        "tests.acceptance.page_program",
        page,
        environment=environment,
        folder=documented.ROOT,
        libraries=libraries,
    )

    assert done.returncode == 0, done.stderr
    for shown in documented.texts(page):
        assert documented.comparable(shown) == documented.comparable(done.stdout)
