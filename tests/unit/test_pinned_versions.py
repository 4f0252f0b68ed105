"""The exact versions that make installs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def pinned_and_installed() -> Iterator[metadata.Distribution]:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            with suppress(metadata.PackageNotFoundError):  # of another extra
                yield metadata.distribution(Requirement(line).name)


def lowest_python() -> str:
    """Return the lowest version of Python that the project supports, as `3.11.0`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['requires-python'].removeprefix('>=')}.0"


def test_all_pinned_versions_can_be_installed_with_the_lowest_python() -> None:
    lowest = lowest_python()
    needing_another = [
        each.name
        for each in pinned_and_installed()
        if lowest not in SpecifierSet(str(each.metadata.json.get("requires_python", "")))
    ]
    assert needing_another == []
