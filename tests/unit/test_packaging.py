"""Every package is installed with its code, and only workers get the bundled model."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import rerankq_bundled_model

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_packages_that_all_install_are_small() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [
        path
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(files) > 100
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_only_workers_install_the_bundled_model() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    name = "rerankq-bundled-model"
    assert [extra for extra in extras if name in str(extras[extra])] == ["worker"]
    assert name not in str(project["dependencies"])


def test_the_bundled_model_is_whole() -> None:
    installed = {path.name for path in rerankq_bundled_model.PATH.iterdir()}
    assert installed >= {"config.json", "model.safetensors", "tokenizer.json"}


#: Of the text at https://www.apache.org/licenses/LICENSE-2.0.txt, as many projects ship it.
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def wheel_files(project: Path, folder: Path) -> dict[str, bytes]:
    """Build a wheel; return the contents of its files."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(folder)], cwd=project, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("project", [".", "rerankq_bundled_model"])
def test_each_wheel_has_the_whole_license(project: str, tmp_path: Path) -> None:
    files = wheel_files(ROOT / project, tmp_path)
    (license_,) = (files[name] for name in files if name.endswith(".dist-info/licenses/LICENSE"))
    assert hashlib.sha256(license_).hexdigest() == APACHE_2_SHA256


def test_type_checkers_find_the_types_of_each_installed_package(tmp_path: Path) -> None:
    files = wheel_files(ROOT, tmp_path)
    assert {"contract/py.typed", "producer/py.typed", "worker/py.typed"} <= files.keys()
