"""Identify the version of a model: by its commit, or by the contents of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from contract.models import FINGERPRINT
from worker.engine.model_paths import Location

#: Files that scores depend on: settings, vocabularies, chat templates and weights.
_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".safetensors", ".bin"}
#: Files that training leaves next to a model.
_OF_TRAINING = {"trainer_state.json", "training_args.bin"}
#: The number of hexadecimal digits, which is enough to tell models apart.
DIGITS = 16


def loaded_revision(location: Location) -> str | None:
    """Return the commit of a model on the hub, or the fingerprint of a model in a folder.

    It is None if the model is not there.
    """
    folder = location.folder()
    if folder is None:
        return None
    # A cache has a folder for each commit.
    return fingerprint(folder) if location.is_folder else folder.name


def fingerprint(folder: Path) -> str:
    """Return `sha256:` and the first digits of a digest of the files that scores depend on.

    All bytes count, because a new head changes only a few. This takes a second per gigabyte.
    """
    made = hashlib.sha256()
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return f"{FINGERPRINT}{made.hexdigest()[:DIGITS]}"


def _files(folder: Path) -> Iterator[Path]:
    for part in {folder, *_modules(folder)}:
        files = [
            path
            for path in part.iterdir()
            if path.suffix in _SUFFIXES and path.name not in _OF_TRAINING and path.is_file()
        ]
        # Weights in both formats are the same, and only safetensors are loaded.
        both = any(path.suffix == ".safetensors" for path in files)
        yield from (path for path in files if not (both and path.suffix == ".bin"))


def _modules(folder: Path) -> list[Path]:
    """Return the folders of the modules of a model of sentence-transformers."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return []
    parts = [folder / module.get("path", "") for module in json.loads(listed.read_bytes())]
    return [part for part in parts if part.is_dir()]
