"""The bundled model with weights rounded to 8 bits: nearly the same scores, on every CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from worker.engine.model_paths import bundled_path

Weights = npt.NDArray[np.floating[Any]]

LEVELS = 127


def write(folder: Path) -> Path:
    """Write the model's files into a new folder, and return it."""
    shutil.copytree(bundled_path(), folder)
    file = folder / "model.safetensors"
    weights = {name: _round(tensor) for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def _round(tensor: Weights) -> Weights:
    """Round matrices with a scale for each row; leave everything else as it is."""
    if tensor.ndim != 2:
        return tensor
    scales = np.abs(tensor).max(axis=1, keepdims=True).astype(np.float32) / LEVELS
    scales[scales == 0] = 1
    rounded: Weights = (np.round(tensor / scales) * scales).astype(tensor.dtype)
    return rounded
