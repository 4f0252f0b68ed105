"""The precision to load a model in, if none was chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from worker.engine.probes import PROBES


def default(device: str, folder: Path | None) -> torch.dtype:
    """Return the precision for a model whose files are in `folder`, if it is known already.

    On CUDA, that is float16, or bfloat16 for a model that was trained in it: its values may exceed
    the range of float16.
    """
    if not device.startswith("cuda"):
        return torch.float32
    return wide(device) if _stated(folder) == "bfloat16" else torch.float16


def wide(device: str) -> torch.dtype:
    """Return the fastest precision of the device with the range of float32."""
    if not device.startswith("cuda"):
        return torch.bfloat16
    supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported(
        including_emulation=False
    )
    return torch.bfloat16 if supported else torch.float32


def overflows(encoder: CrossEncoder) -> bool:
    """Return whether scores of probe pairs exceed the range of the model's precision."""
    scores = encoder.predict(
        list(PROBES), batch_size=1, activation_fn=torch.nn.Identity(), show_progress_bar=False
    )
    return not bool(np.isfinite(scores).all())


def _stated(folder: Path | None) -> str | None:
    """Return the precision that the configuration states, if there is one."""
    try:
        config = json.loads((folder / "config.json").read_text()) if folder else {}
    except (OSError, ValueError):  # loading reports what is wrong with it
        return None
    stated = config.get("dtype", config.get("torch_dtype")) if isinstance(config, dict) else None
    return stated if isinstance(stated, str) else None
