"""Write a cache of the Hugging Face hub with several commits of a model, which differ in scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.bert_files import WEIGHTS, bert

NAME = "nobody/cached"


def write(cache: Path, refs: dict[str, str]) -> None:
    """Write a commit for each distinct one in `refs`, which names them by tag or branch.

    The bias of the head is the place of the commit among them, so scores differ by whole numbers.
    """
    stored = cache / f"models--{NAME.replace('/', '--')}"
    (stored / "blobs").mkdir(parents=True)
    model = Path(bert(stored / "model"))
    for place, commit in enumerate(sorted(set(refs.values()))):
        _add_commit(stored, model, commit, bias=place)
    shutil.rmtree(model)
    (stored / "refs").mkdir()
    for name, commit in refs.items():
        (stored / "refs" / name).write_text(commit)


def _add_commit(stored: Path, model: Path, commit: str, bias: int) -> None:
    """Add a snapshot of links to blobs, as the hub's client does."""
    snapshot = stored / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        blob = shutil.copy(path, stored / "blobs" / f"{commit[:7]}-{path.name}")
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", Path(blob).name))
    weights = load_file(snapshot / WEIGHTS)
    weights["classifier.bias"] = np.full(1, bias, np.float32)
    save_file(weights, (snapshot / WEIGHTS).resolve(), metadata={"format": "pt"})
