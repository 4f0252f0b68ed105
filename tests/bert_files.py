"""Write small BERTs with random weights, without torch, which takes seconds to import.

Models of other architectures are in `tests.unit.tiny_models` and `tests.unit.odd_models`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from worker.engine.model_paths import bundled_path

WEIGHTS = "model.safetensors"
#: Sizes that are replaced in the shapes of the bundled model.
TINY = {"hidden_size": 32, "intermediate_size": 64}


def bert(folder: Path, **config: Any) -> str:
    """Write a BERT with the tokenizer of the bundled model and this configuration."""
    bundled = json.loads((bundled_path() / "config.json").read_text())
    shape: dict[str, Any] = bundled | TINY | config
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled_path() / name, folder)
    (folder / "config.json").write_text(json.dumps(shape))
    sizes: dict[int, int] = {bundled[name]: shape[name] for name in TINY}
    random = np.random.default_rng(0)
    weights = {}
    for name, weight in load_file(bundled_path() / WEIGHTS).items():
        dimensions = [sizes.get(size, size) for size in map(int, weight.shape)]
        if "position_embeddings" in name:
            dimensions[0] = shape["max_position_embeddings"]
        weights[name] = _initial(name, dimensions, random)
    _save(folder, weights)
    return str(folder)


def headless(folder: Path) -> str:
    """Write a BERT without a head, whose config.json names no architecture."""
    path = bert(folder, architectures=None)
    weights = load_file(folder / WEIGHTS)
    _save(
        folder,
        {
            name.removeprefix("bert."): weight
            for name, weight in weights.items()
            if name.startswith("bert.")
        },
    )
    return path


def remote_code(folder: Path) -> str:
    """Write a model with its own code, which no process may run."""
    theirs = {"AutoConfig": "theirs.Config", "AutoModelForSequenceClassification": "theirs.Model"}
    path = bert(folder, model_type="strange", auto_map=theirs)
    (folder / "theirs.py").write_text("raise SystemExit('was run')")
    return path


def _initial(name: str, shape: list[int], random: np.random.Generator) -> np.ndarray:
    """Return initial weights that vary enough for documents to get different scores."""
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if "LayerNorm" in name:
        return np.ones(shape, np.float32)
    return random.normal(0.0, 0.5, shape).astype(np.float32)


def _save(folder: Path, weights: dict[str, np.ndarray]) -> None:
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
