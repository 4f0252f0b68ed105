"""What is installed: every package needs its code, and only workers need the bundled model."""

from __future__ import annotations

import tomllib
from pathlib import Path

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
    assert sum(path.stat().st_size for path in files) < 1_500_000


def test_only_workers_install_the_bundled_model() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    name = "rerankq-bundled-model"
    assert [extra for extra in extras if name in str(extras[extra])] == ["worker"]
    assert name not in str(project["dependencies"])


def test_the_bundled_model_is_whole() -> None:
    installed = {path.name for path in rerankq_bundled_model.PATH.iterdir()}
    assert installed >= {"config.json", "model.safetensors", "tokenizer.json"}
